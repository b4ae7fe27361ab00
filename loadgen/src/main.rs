//! Comes with its first commit.

fn main() {}
