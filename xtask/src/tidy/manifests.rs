//! Which package may depend on which: an arrow in ARCHITECTURE.md is a line in a Cargo.toml.
//!
//! Reads normal, build and development dependencies alike, of every target. Invariant: a package
//! that is not in [`ALLOWED`] is an offence, so that a new one is placed deliberately.

use toml::Table;

use super::{Offence, offence};

/// Every package of the repository, its folder, and the packages of the workspace that it may use.
const ALLOWED: &[(&str, &str, &[&str])] = &[
    (
        "ringlane",
        "",
        &["ringlane-core", "ringlane-health", "ringlane-l4", "ringlane-shard", "ringlane-tuning"],
    ),
    ("ringlane-core", "core/", &[]),
    ("ringlane-health", "health/", &["ringlane-core"]),
    ("ringlane-shard", "shard/", &["ringlane-core"]),
    ("ringlane-l4", "l4/", &["ringlane-core", "ringlane-shard"]),
    ("ringlane-tuning", "tuning/", &[]),
    ("ringlane-loadgen", "loadgen/", &[]),
    ("ringlane-bench", "bench/", &["ringlane-core", "ringlane-l4", "ringlane-shard"]),
    ("ringlane-fuzz", "fuzz/", &["ringlane", "ringlane-core", "ringlane-l4", "ringlane-shard"]),
    ("xtask", "xtask/", &[]),
];

/// The packages of the data path, which have no features.
const HOT: &[&str] = &["ringlane-core", "ringlane-shard", "ringlane-l4"];

/// Packages that know no file format and no second runtime.
const PLAIN: &[&str] = &["ringlane-core", "ringlane-health", "ringlane-shard", "ringlane-l4"];

/// What those do without, with everything that is named after it.
const COLD_ONLY: &[&str] = &["toml", "serde", "tokio"];

/// The package that a file belongs to.
pub(super) fn package_of(path: &str) -> &'static str {
    let packages = ALLOWED.iter().filter(|(_, folder, _)| path.starts_with(folder));
    packages.max_by_key(|(_, folder, _)| folder.len()).map_or("", |(name, ..)| name)
}

/// Checks all manifests.
pub(super) fn check(files: &[(String, String)]) -> Vec<Offence> {
    let manifests = files.iter().filter(|(path, _)| is_manifest(path));
    manifests.flat_map(|(path, text)| check_manifest(path, text)).collect()
}

fn is_manifest(path: &str) -> bool {
    path == "Cargo.toml" || path.ends_with("/Cargo.toml")
}

fn check_manifest(path: &str, text: &str) -> Vec<Offence> {
    let manifest = match text.parse::<Table>() {
        Ok(manifest) => manifest,
        Err(error) => return vec![offence(path, 1, format!("not TOML: {}", error.message()))],
    };
    let Some(name) = manifest.get("package").and_then(|p| p.get("name")?.as_str()) else {
        return Vec::new(); // a workspace without a package of its own
    };
    let folder = path.trim_end_matches("Cargo.toml");
    let Some((_, _, allowed)) = ALLOWED.iter().find(|(n, f, _)| *n == name && *f == folder) else {
        let message = format!("package {name} in {path} is not in the table of allowed edges");
        return vec![offence(path, 1, message)];
    };
    let mut offences = Vec::new();
    for dependency in dependencies(&manifest) {
        let is_ours = ALLOWED.iter().any(|(ours, ..)| *ours == dependency);
        let line = line_of(text, &dependency);
        if is_ours && !allowed.contains(&dependency.as_str()) {
            let message = format!("{name} must not depend on {dependency}: see ARCHITECTURE.md");
            offences.push(offence(path, line, message));
        }
        if PLAIN.contains(&name) && COLD_ONLY.iter().any(|cold| is_family(&dependency, cold)) {
            let message = format!("{name} must not know {dependency}: only cold packages do");
            offences.push(offence(path, line, message));
        }
    }
    if HOT.contains(&name) && manifest.contains_key("features") {
        let message = format!("{name} has features: none may change the data path");
        offences.push(offence(path, line_of(text, "[features]"), message));
    }
    offences
}

/// The names of all packages that a manifest depends on, renamed ones by their true name.
fn dependencies(manifest: &Table) -> Vec<String> {
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets = manifest.get("target").and_then(|t| t.as_table()).into_iter().flatten();
    let tables = std::iter::once(manifest).chain(targets.filter_map(|(_, t)| t.as_table()));
    let lists = tables.flat_map(|t| kinds.iter().filter_map(|kind| t.get(*kind)?.as_table()));
    let renamed = |value: &toml::Value| Some(value.get("package")?.as_str()?.to_owned());
    lists.flatten().map(|(key, value)| renamed(value).unwrap_or_else(|| key.clone())).collect()
}

/// Whether `name` is the crate `family` or one of its own: `serde_json` is of `serde`.
fn is_family(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['_', '-']))
}

/// The first line that mentions `word`, from 1.
fn line_of(text: &str, word: &str) -> usize {
    text.lines().position(|line| line.contains(word)).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, dependencies: &str) -> Vec<String> {
        let name = ALLOWED.iter().find(|(_, f, _)| format!("{f}Cargo.toml") == path).unwrap().0;
        let text = format!("[package]\nname = \"{name}\"\n{dependencies}");
        check(&[(path.to_owned(), text)]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn allowed_edges_pass() {
        assert!(
            found("l4/Cargo.toml", "[dependencies]\nringlane-core = {}\nlibc = \"1\"").is_empty()
        );
        assert!(
            found("Cargo.toml", "[dependencies]\nringlane-tuning = {}\ntoml = \"1\"").is_empty()
        );
    }

    #[test]
    fn edges_in_the_wrong_direction_are_found_in_every_table() {
        for table in ["dependencies", "dev-dependencies", "target.'cfg(unix)'.dependencies"] {
            let lines =
                found("core/Cargo.toml", &format!("[{table}]\nringlane-l4.workspace = true"));
            assert_eq!(
                lines,
                ["core/Cargo.toml:4: ringlane-core must not depend on ringlane-l4: \
                  see ARCHITECTURE.md"]
            );
        }
        assert_eq!(
            found("l4/Cargo.toml", "[dependencies]\nx = { package = \"ringlane\" }").len(),
            1
        );
        assert_eq!(found("Cargo.toml", "[dev-dependencies]\nringlane-bench = {}").len(), 1);
    }

    #[test]
    fn the_data_path_knows_no_file_format_and_has_no_features() {
        assert_eq!(found("l4/Cargo.toml", "[dependencies]\nserde_json = \"1\"").len(), 1);
        assert_eq!(found("health/Cargo.toml", "[dependencies]\ntokio = \"1\"").len(), 1);
        assert_eq!(found("core/Cargo.toml", "[features]\nfast = []").len(), 1);
        assert!(found("loadgen/Cargo.toml", "[dependencies]\nserde_json = \"1\"").is_empty());
    }

    #[test]
    fn an_unknown_package_is_found() {
        let text = "[package]\nname = \"ringlane-extra\"\n".to_owned();
        assert_eq!(check(&[("extra/Cargo.toml".to_owned(), text)]).len(), 1);
    }
}
