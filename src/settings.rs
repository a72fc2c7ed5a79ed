//! Flags and environment, read once; no other room reads either.
