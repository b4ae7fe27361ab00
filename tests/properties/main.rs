//! The fuzzers' entry points on stable: with bytes from proptest, and with every file of the
//! fuzzers' corpora.
//!
//! Coverage-guided fuzzing of the same functions needs another toolchain: docs/testing.md. A file
//! that a fuzzer found becomes a test by being put into fuzz/corpus/ENTRY.

#![forbid(unsafe_code)]

#[path = "../../fuzz/src/entries/mod.rs"]
#[expect(unreachable_pub, reason = "public in the fuzzers' own package")]
mod entries;

use std::fs;
use std::path::Path;

use proptest::prelude::*;

type Entry = fn(&[u8]);

const ENTRIES: [(&str, Entry); 13] = [
    ("address", entries::address),
    ("chooser", entries::chooser),
    ("client_hello", entries::client_hello),
    ("config", entries::config),
    ("duration", entries::duration),
    ("histogram", entries::histogram),
    ("mysql", entries::mysql),
    ("postgres", entries::postgres),
    ("proxy", entries::proxy),
    ("redis", entries::redis),
    ("relay", entries::relay),
    ("slab", entries::slab),
    ("wheel", entries::wheel),
];

/// The files of one corpus, or nothing where there is none.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|file| Some((file.path().display().to_string(), fs::read(file.path()).ok()?)))
        .collect()
}

#[test]
fn every_file_of_the_corpora_passes() {
    for (name, entry) in ENTRIES {
        let files = corpus(name);
        assert!(!files.is_empty(), "fuzz/corpus/{name} is empty");
        for (path, bytes) in files {
            println!("{path}"); // shown if it fails
            entry(&bytes);
        }
    }
}

/// A file of the corpus with some bytes replaced and an end cut off.
fn damaged(name: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let files: Vec<Vec<u8>> = corpus(name).into_iter().map(|(_, bytes)| bytes).collect();
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    (prop::sample::select(files), damage, any::<Option<prop::sample::Index>>()).prop_map(
        |(mut bytes, damage, end)| {
            if let Some(end) = end {
                bytes.truncate(end.index(bytes.len() + 1));
            }
            for (at, byte) in damage {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            bytes
        },
    )
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..400)
}

proptest! {
    #[test]
    fn address(bytes in prop_oneof![any_bytes(), damaged("address")]) {
        entries::address(&bytes);
    }

    #[test]
    fn chooser(bytes in any_bytes()) {
        entries::chooser(&bytes);
    }

    #[test]
    fn client_hello(bytes in prop_oneof![any_bytes(), damaged("client_hello")]) {
        entries::client_hello(&bytes);
    }

    #[test]
    fn config(bytes in prop_oneof![any_bytes(), damaged("config")]) {
        entries::config(&bytes);
    }

    #[test]
    fn duration(bytes in prop_oneof![any_bytes(), damaged("duration")]) {
        entries::duration(&bytes);
    }

    #[test]
    fn histogram(bytes in any_bytes()) {
        entries::histogram(&bytes);
    }

    #[test]
    fn mysql(bytes in prop_oneof![any_bytes(), damaged("mysql")]) {
        entries::mysql(&bytes);
    }

    #[test]
    fn postgres(bytes in prop_oneof![any_bytes(), damaged("postgres")]) {
        entries::postgres(&bytes);
    }

    #[test]
    fn proxy(bytes in prop_oneof![any_bytes(), damaged("proxy")]) {
        entries::proxy(&bytes);
    }

    #[test]
    fn redis(bytes in prop_oneof![any_bytes(), damaged("redis")]) {
        entries::redis(&bytes);
    }

    #[test]
    fn relay(bytes in prop_oneof![any_bytes(), damaged("relay")]) {
        entries::relay(&bytes);
    }

    #[test]
    fn slab(bytes in any_bytes()) {
        entries::slab(&bytes);
    }

    #[test]
    fn wheel(bytes in any_bytes()) {
        entries::wheel(&bytes);
    }
}
