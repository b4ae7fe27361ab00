//! Feeds `entries::proxy` from libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringlane_fuzz::entries::proxy(bytes));
