//! Which endpoint of a version takes this request.
