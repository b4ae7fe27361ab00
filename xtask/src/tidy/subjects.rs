//! Subjects of commits fit in a line of `git log`.
//!
//! Looks at the commits since this rule exists, which is since git knows this file: published
//! history isn't rewritten for it. Without a repository, or in a shallow clone, nothing is checked
//! and a line says so. Not here: whether a subject is a good one.

use std::path::Path;
use std::process::Command;

use super::{Offence, offence};

/// Columns of a subject at most.
const SUBJECT_COLUMNS: usize = 72;

/// The file whose first commit is the last that isn't checked.
const SINCE: &str = "xtask/src/tidy/subjects.rs";

/// Checks the commits of the repository in `root`.
pub(super) fn check(root: &Path) -> Vec<Offence> {
    match subjects(root) {
        Ok(log) => check_log(&log),
        Err(why) => {
            println!("  subjects of commits: not checked ({why})");
            Vec::new()
        }
    }
}

/// Lines of abbreviated hash and subject, or why there are none to look at.
fn subjects(root: &Path) -> Result<String, String> {
    if !root.join(".git").exists() {
        return Err("this is no git repository".to_owned());
    }
    if git(root, &["rev-parse", "--is-shallow-repository"])?.trim() == "true" {
        return Err("the clone is shallow".to_owned());
    }
    let added = git(root, &["log", "--diff-filter=A", "--format=%H", "--", SINCE])?;
    let Some(begin) = added.lines().last() else {
        return Err(format!("git does not know {SINCE} yet"));
    };
    git(root, &["log", "--no-merges", "--format=%h %s", &format!("{begin}..HEAD")])
}

/// What git prints.
fn git(root: &Path, arguments: &[&str]) -> Result<String, String> {
    let cannot = |why: &str| format!("git {}: {}", arguments[0], why.trim());
    let mut command = Command::new("git");
    // Set in hooks and while rebasing; they would lead to another repository than that in `root`.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    let output = command.arg("-C").arg(root).args(arguments).output();
    let output = output.map_err(|error| cannot(&error.to_string()))?;
    if !output.status.success() {
        return Err(cannot(&String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn check_log(log: &str) -> Vec<Offence> {
    let lines = log.lines().filter_map(|line| line.split_once(' '));
    lines
        .filter_map(|(hash, subject)| {
            let columns = subject.chars().count();
            let message = || {
                format!("a subject of {columns} columns, {SUBJECT_COLUMNS} at most: \"{subject}\"")
            };
            (columns > SUBJECT_COLUMNS).then(|| offence(&format!("commit {hash}"), 1, message()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_long_subject_is_found() {
        let fits = "ü".repeat(SUBJECT_COLUMNS);
        let found = check_log(&format!("a1 {fits}\nb2 {fits}.\nc3 l4: short\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].to_string().starts_with("commit b2:1: a subject of 73 columns"));
    }

    #[test]
    fn commits_since_the_rule_are_looked_at_and_none_without_a_repository() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert!(subjects(root).unwrap_err().contains("no git repository"));
        let commit = |file: &str, subject: &str| {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "").unwrap();
            git(root, &["add", file]).unwrap();
            let settings = "user.name=a user.email=a@example.org commit.gpgsign=false \
                            core.hooksPath=/dev/null";
            let settings = settings.split(' ').flat_map(|setting| ["-c", setting]);
            let commit = ["commit", "--quiet", "-m", subject];
            git(root, &settings.chain(commit).collect::<Vec<_>>()).unwrap();
        };
        git(root, &["init", "--quiet"]).unwrap();
        commit("a", &"before the rule ".repeat(6));
        assert!(subjects(root).unwrap_err().contains("does not know"));
        commit(SINCE, &"with the rule ".repeat(6));
        assert!(check(root).is_empty());
        commit("b", &"after the rule ".repeat(6));
        assert_eq!(check(root).len(), 1);
    }
}
