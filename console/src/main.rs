//! sky.

fn main() {}
