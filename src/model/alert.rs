//! To be written: alert.
