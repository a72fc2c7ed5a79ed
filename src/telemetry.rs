//! Log set-up; every event and metric name.
