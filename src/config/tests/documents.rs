//! Documentation and examples show what this version accepts.
//!
//! Every TOML block of every page says in its first line whether it is a whole file, which must be
//! accepted without a warning, or a part of one, which may lack things but have no other error.

use std::fs;
use std::path::PathBuf;

use ringlane_core::limits;

use super::super::text::keys::Key;
use super::super::text::schema::Section;
use super::parse;

/// First line of a block that can be run as it is.
const WHOLE: &str = "# A whole file";

/// First line of a block that needs more around it.
const PART: &str = "# Part of a file";

/// What is said about something that is missing: all that may be wrong with a part.
const MISSING: [&str; 4] = [
    " is required here",
    "no [[backend]] has this name",
    "no frontend is configured",
    "include works only in a file on disk",
];

/// A TOML block of a page.
struct Block {
    /// Page and line, for messages.
    place: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The Markdown files of the repository's root and of docs/, by their names from the root.
fn pages() -> Vec<String> {
    let in_folder = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let pages = names.filter(|name| name.ends_with(".md"));
        pages.map(|name| format!("{folder}{name}")).collect::<Vec<_>>()
    };
    let pages = [in_folder(""), in_folder("docs/")].concat();
    assert!(pages.len() > 10, "{pages:?}");
    pages
}

/// The TOML blocks of all pages.
fn blocks() -> Vec<Block> {
    pages().iter().flat_map(|name| blocks_of(name, &page(name))).collect()
}

fn blocks_of(name: &str, page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (line, number) in page.lines().zip(1..) {
        let fence = line.trim_start().strip_prefix("```");
        match (fence, &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(language), None) if language.starts_with("toml") => {
                assert_eq!(language, "toml", "{name}:{number}: what code hosts do not highlight");
                open = Some(Block { place: format!("{name}:{number}"), text: String::new() });
            }
            (None, Some(block)) => block.text += &format!("{line}\n"),
            (_, None) => {}
        }
    }
    assert!(open.is_none(), "{name} has a block without end");
    blocks
}

#[test]
fn every_example_says_whether_it_is_whole() {
    let blocks = blocks();
    for Block { place, text } in &blocks {
        let is_marked = text.starts_with(WHOLE) || text.starts_with(PART);
        assert!(is_marked, "{place}: begin the block with \"{WHOLE}.\" or \"{PART}.\"");
    }
    for mark in [WHOLE, PART] {
        let marked = blocks.iter().filter(|block| block.text.starts_with(mark)).count();
        assert!(marked >= 5, "{marked} blocks with {mark}");
    }
}

#[test]
fn whole_files_in_the_documentation_are_accepted_without_a_warning() {
    for Block { place, text } in blocks().iter().filter(|block| block.text.starts_with(WHOLE)) {
        match parse(text) {
            Err(report) => panic!("{place} shows a file that is refused:\n{report}"),
            Ok(config) => assert_eq!(config.warnings.warnings(), 0, "{place}: {}", config.warnings),
        }
    }
}

#[test]
fn parts_of_files_in_the_documentation_lack_things_and_have_no_other_error() {
    for Block { place, text } in blocks().iter().filter(|block| block.text.starts_with(PART)) {
        let Err(report) = parse(text) else { panic!("{place} is a whole file: say so") };
        let errors = report.lines().filter(|line| line.starts_with("error: "));
        for error in errors {
            assert!(MISSING.iter().any(|what| error.contains(what)), "{place}: {error}");
        }
    }
}

#[test]
fn examples_are_accepted_without_a_warning() {
    let mut count = 0;
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension() == Some("toml".as_ref()) {
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with(WHOLE), "{}", path.display());
            match parse(&text) {
                Err(report) => panic!("{} is refused:\n{report}", path.display()),
                Ok(config) => {
                    let warnings = config.warnings;
                    assert_eq!(warnings.warnings(), 0, "{}: {warnings}", path.display());
                }
            }
            count += 1;
        }
    }
    assert!(count > 1, "there are examples");
}

#[test]
fn every_key_is_documented_in_its_section() {
    let page = page("docs/configuration.md");
    for section in Section::ALL {
        let heading = match section {
            Section::Root => continue,
            Section::Global
            | Section::Admin
            | Section::AdminSocket
            | Section::Token
            | Section::Log
            | Section::AccessLog
            | Section::Resolver => "## `[global]`",
            Section::Frontend
            | Section::Timeout
            | Section::AcceptProxy
            | Section::PerClient
            | Section::Route
            | Section::Tcp
            | Section::Keepalive => "## `[[frontend]]`",
            Section::Backend
            | Section::Server
            | Section::Affinity
            | Section::Queue
            | Section::Check
            | Section::Outlier
            | Section::SendProxy
            | Section::Bandwidth
            | Section::Mirror
            | Section::Step
            | Section::Secret => "## `[[backend]]`",
        };
        let text = page.split(heading).nth(1).expect(heading);
        let text = text.split("\n## ").next().unwrap_or_default();
        for Key { name: key, .. } in section.keys() {
            assert!(text.contains(&format!("| `{key}` |")), "{key} under {heading}");
        }
    }
}

/// Whether a key such as `backend.check.rise` exists.
fn exists(path: &str) -> bool {
    let mut section = Some(Section::Root);
    path.split('.').all(|key| {
        let here = section;
        section = here.and_then(|here| here.inner(key));
        here.is_some_and(|here| here.has(key))
    })
}

#[test]
fn the_dictionary_of_other_balancers_leads_to_keys_that_exist() {
    assert!(exists("backend.check.rise") && exists("frontend.tcp.keepalive.idle"));
    assert!(!exists("backend.rise") && !exists("frontend.tcp.keepalive.idle.x"));
    let (page, mut keys) = (page("docs/migrating.md"), 0);
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    for row in rows {
        let (_, ours) = row.trim_end_matches(" |").rsplit_once(" | ").expect(row);
        let words = ours.split('`').skip(1).step_by(2);
        let tables = ["global.", "frontend.", "backend."];
        let of_ours: Vec<&str> =
            words.filter(|word| tables.iter().any(|table| word.starts_with(table))).collect();
        for key in &of_ours {
            assert!(exists(key), "docs/migrating.md: {key} in {row}");
        }
        let others = [
            "not needed",
            "not yet",
            "`ringlane ctl ",
            "operations.md#",
            "configuration.md#",
            "`[[frontend]]`",
        ];
        let is_answered = !of_ours.is_empty() || others.iter().any(|other| ours.contains(other));
        assert!(is_answered, "docs/migrating.md: no key and no reason in {row}");
        keys += of_ours.len();
    }
    assert!(keys > 100, "the page has {keys} keys");
}

/// `12345` as `12,345`.
fn thousands(n: usize) -> String {
    if n < 1000 { n.to_string() } else { format!("{},{:03}", thousands(n / 1000), n % 1000) }
}

#[test]
fn the_page_on_capacity_has_the_bounds_of_the_code() {
    let page = page("docs/capacity.md").replace('\n', " ");
    let kib = |bytes: usize| format!("{} KiB", bytes >> 10);
    let mib = |bytes: usize| format!("{} MiB", bytes >> 20);
    let buffers = limits::BUFFERS_MAX * limits::BUFFER_SIZE;
    for bound in [
        format!("up to {} buffers", thousands(limits::BUFFERS_MAX)),
        format!("of {} ({})", kib(limits::BUFFER_SIZE), mib(buffers)),
        format!("*N* × {}", mib(buffers)),
        format!("{} of them to fill", limits::BUFFERS_OFFERED),
        format!("holds up to {}", kib(limits::RECEIVE_WINDOW)),
        format!("pipes of up to {}", mib(limits::PIPE_SIZE)),
        format!("at most {} pipes", limits::PIPES_MAX),
        format!("keeps {} idle ones", limits::PIPES_IDLE),
        format!("add {} × *N*", thousands(2 * (limits::PIPES_MAX - limits::PIPES_IDLE))),
        format!("{} × *N* if any backend has a `mirror`", limits::MIRRORS_MAX),
        format!("at most {} per shard", mib(limits::MIRROR_BYTES_ALL)),
        format!("{} records per shard", thousands(limits::LOG_RECORDS)),
    ] {
        assert!(page.contains(&bound), "docs/capacity.md lacks \"{bound}\"");
    }
}

#[test]
fn examples_of_keys_are_toml() {
    for section in Section::ALL {
        for Key { name: key, example, .. } in section.keys() {
            let (table, errors) = toml::de::DeTable::parse_recoverable(example);
            assert!(errors.is_empty() && table.get_ref().contains_key(*key), "{example}");
        }
    }
}
