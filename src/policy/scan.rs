//! Which service a body of the named entry asks for, found while it streams by.
