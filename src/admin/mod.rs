//! Readiness and the JSON API.
