//! To be written: shadow.
