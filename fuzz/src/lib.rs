//! What the fuzzers run. The same entry points run on stable, by proptest: tests/properties.

#![forbid(unsafe_code)]

pub mod entries;
