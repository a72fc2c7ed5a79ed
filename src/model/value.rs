//! To be written: value.
