//! Documentation and examples say what this version accepts.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::text::schema::Place;
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
    for place in Place::ALL {
        let heading = match place {
            Place::Root => continue,
            Place::Global | Place::Admin | Place::Log | Place::AccessLog | Place::Resolver => {
                "## `[global]`"
            }
            Place::Frontend
            | Place::Timeout
            | Place::AcceptProxy
            | Place::PerClient
            | Place::Route
            | Place::Tcp
            | Place::Keepalive => "## `[[frontend]]`",
            Place::Backend
            | Place::Server
            | Place::Affinity
            | Place::Queue
            | Place::Check
            | Place::Outlier
            | Place::SendProxy
            | Place::Bandwidth
            | Place::Mirror
            | Place::Step
            | Place::Secret => "## `[[backend]]`",
        };
        let section = page.split(heading).nth(1).expect(heading);
        let section = section.split("\n## ").next().unwrap_or_default();
        for (key, _) in place.keys() {
            assert!(section.contains(&format!("| `{key}` |")), "{key} under {heading}");
        }
    }
}

#[test]
fn examples_of_keys_are_toml() {
    for place in Place::ALL {
        for (key, example) in place.keys() {
            let (table, errors) = toml::de::DeTable::parse_recoverable(example);
            assert!(errors.is_empty() && table.get_ref().contains_key(*key), "{example}");
        }
    }
    assert!(Path::new(&root()).join("examples/tcp.toml").exists());
}
