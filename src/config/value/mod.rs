//! Single values as people write them: addresses, durations, bit rates, DNS names.
//!
//! Not here: tables and keys (`text`), and which values a key accepts (`read`).

pub(super) mod address;
pub(super) mod bitrate;
pub(super) mod duration;
pub(super) mod lookup;
pub(super) mod quoted;
