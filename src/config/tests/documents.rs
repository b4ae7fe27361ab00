//! Documentation and examples say what this version accepts.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::text::schema::Section;
use super::parse;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn configuration() -> String {
    fs::read_to_string(root().join("docs/configuration.md")).unwrap()
}

/// The text of each TOML block of a Markdown page.
fn toml_blocks(page: &str) -> Vec<&str> {
    page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn whole_files_in_the_documentation_are_accepted() {
    let page = configuration();
    let whole = |block: &&str| block.contains("[[frontend]]") && block.contains("[[backend]]");
    let files: Vec<&str> = toml_blocks(&page).into_iter().filter(whole).collect();
    assert!(files.len() >= 2, "the page shows whole files");
    for file in files {
        if let Err(report) = parse(file) {
            panic!("docs/configuration.md shows a file that is refused:\n{report}");
        }
    }
}

#[test]
fn examples_are_accepted() {
    let mut count = 0;
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension() == Some("toml".as_ref()) {
            if let Err(report) = parse(&fs::read_to_string(&path).unwrap()) {
                panic!("{} is refused:\n{report}", path.display());
            }
            count += 1;
        }
    }
    assert!(count > 0, "there are examples");
}

#[test]
fn every_key_is_documented_in_its_section() {
    let page = configuration();
    for section in Section::ALL {
        let heading = match section {
            Section::Root => continue,
            Section::Global
            | Section::Admin
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
        for (key, _) in section.keys() {
            assert!(text.contains(&format!("| `{key}` |")), "{key} under {heading}");
        }
    }
}

#[test]
fn examples_of_keys_are_toml() {
    for section in Section::ALL {
        for (key, example) in section.keys() {
            let (table, errors) = toml::de::DeTable::parse_recoverable(example);
            assert!(errors.is_empty() && table.get_ref().contains_key(*key), "{example}");
        }
    }
    assert!(Path::new(&root()).join("examples/tcp.toml").exists());
}
