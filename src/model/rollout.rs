//! To be written: rollout.
