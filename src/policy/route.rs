//! Which route takes this request.
