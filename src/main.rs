//! The door: reads the verb and hands over.

fn main() {}
