//! The control side of Ringlane: command line, configuration, supervisor, admin API, demo.
//!
//! Not here: anything that touches a byte of a session (`ringlane-core`, `ringlane-l4`). This
//! library exists so that the binary stays thin and tests and the demo use the same parts; it is no
//! public API. Read `cli` first, then `control::run`.

#![forbid(unsafe_code)]

pub mod carriers;
pub mod cli;
pub mod config;
pub mod control;
pub mod ctl;
pub mod demo;
