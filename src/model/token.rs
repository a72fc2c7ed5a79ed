//! To be written: token.
