//! To be written: issuer.
