//! All Redis I/O and the snapshot file.
