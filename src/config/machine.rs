//! Warnings about what a configuration needs and the host lacks: files, programs, sockets.
//!
//! Readers record each [`Requirement`] with its place in the file. The host is checked only for a
//! file on disk, never for a text. What is missing is only a warning, because it may be created
//! later: a password by a secret store, a directory by systemd. Invariants: nothing is opened that
//! could block, and no content is read.

use std::collections::HashSet;
use std::env;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::model::credential_file;
use super::text::report::{Diagnostic, Diagnostics, quoted};
use super::text::requirement::{Need, Purpose, Requirement};
use super::text::sources::Sources;

/// Mode bit: readable by all users.
const READ_BY_ALL: u32 = 0o004;

/// Where programs are looked for without `PATH`, as libc does.
const SEARCH_PATH: &str = "/bin:/usr/bin";

/// Mode bits: executable by owner, group or others.
const RUN_BY_SOMEBODY: u32 = 0o111;

/// Records a warning for everything that the host lacks.
pub(super) fn look(sink: &Diagnostics, wanted: Vec<Need>, sources: &Sources) {
    // Files with a password of their own, which are reported once each.
    let mut reported = HashSet::new();
    for Need { span, owner, requirement } in wanted {
        let file = sources.path_at(span.start).unwrap_or_else(|| Path::new(""));
        if matches!(requirement, Requirement::OwnSecret(_)) && !reported.insert(file) {
            continue;
        }
        match missing(&owner, &requirement, file) {
            Some(Finding::Missing(title, label, hint)) => {
                sink.add(Diagnostic::at(span, title).label(label).hint(hint).warning());
            }
            Some(Finding::Unseen(title, label, hint)) => {
                sink.add(Diagnostic::at(span, title).label(label).hint(hint).unverified());
            }
            None => {}
        }
    }
}

/// What is wrong on the host.
enum Finding {
    /// Something is missing: title, label and hint of a warning.
    Missing(String, String, String),
    /// Something can't be looked at by this user, which proves nothing: title, label and hint.
    Unseen(String, String, &'static str),
}

fn missing(owner: &str, wanted: &Requirement, file: &Path) -> Option<Finding> {
    match wanted {
        Requirement::Secret(purpose, path) => secret(owner, path, *purpose),
        Requirement::Variable(purpose, name) => match env::var_os(name) {
            Some(value) if !value.is_empty() => None,
            _ => Some(Finding::Missing(
                format!("the {} of the {owner} is not set", purpose.called()),
                format!("environment variable {} is not set", quoted(name)),
                format!("set it where the balancer is started; {}", purpose.effect()),
            )),
        },
        Requirement::Credential(purpose, name) => match credential_file(name) {
            Ok(path) => lacking(&path, |found| found.is_file())?.finding(
                format!("the {} of the {owner} is missing", purpose.called()),
                &format!("add it to the unit: LoadCredential=NAME:/path; {}", purpose.effect()),
            ),
            Err(why) => Some(Finding::Unseen(
                format!("no way to see whether the {} of the {owner} exists", purpose.called()),
                why,
                "the unit needs LoadCredential=NAME:/path; --strict does not count this warning",
            )),
        },
        Requirement::OwnSecret(purpose) => is_open(&fs::metadata(file).ok()?).then(|| {
            Finding::Missing(
                format!("all users of this host can read the {} of the {owner}", purpose.called()),
                format!("the configuration file has mode {}", mode(&fs::metadata(file).ok())),
                format!(
                    "use {} = {{ file = \"{}\" }}, or chmod o-r the file",
                    purpose.called(),
                    purpose.file()
                ),
            )
        }),
        Requirement::File(path) => lacking(path, |metadata| metadata.is_file())?.finding(
            format!("the ca file of the {owner} can't be used"),
            "create it; until then, the check fails",
        ),
        Requirement::Program(path) => program(path)?.finding(
            format!("the program of the {owner} can't be run"),
            "install it and make it executable; until then, the check fails",
        ),
        Requirement::SocketFolder(path) => directory(
            path,
            "it is created at the start if permissions allow; with systemd, set RuntimeDirectory",
        ),
        Requirement::LogFolder(path) => {
            directory(path, "create it, owned by the user of the balancer")
        }
        Requirement::Socket(path) => lacking(path, |_| true)?.finding(
            format!("the socket of {owner} does not exist"),
            "start the program that listens on it",
        ),
    }
}

/// Why something can't be used.
struct Lack {
    why: String,
    /// This user may not look, which proves nothing.
    is_denied: bool,
}

impl Lack {
    fn finding(self, title: String, hint: &str) -> Option<Finding> {
        if self.is_denied {
            let title = format!("no permission to see whether {title}");
            let hint = "run the check as the user of the balancer or as root to be sure; \
                        --strict does not count this warning";
            return Some(Finding::Unseen(title, self.why, hint));
        }
        Some(Finding::Missing(title, self.why, hint.to_owned()))
    }
}

fn secret(owner: &str, path: &Path, purpose: Purpose) -> Option<Finding> {
    let what = purpose.called();
    let Ok(metadata) = fs::metadata(path) else {
        let hint = format!(
            "create it with the {what} as its first line, readable only by the user of the \
             balancer; {}",
            purpose.effect()
        );
        return lacking(path, |_| true)?
            .finding(format!("the {what} of the {owner} is missing"), &hint);
    };
    if !metadata.is_file() {
        let why = "not a regular file".to_owned();
        let hint = format!("use a file whose first line is the {what}");
        let title = format!("the {what} of the {owner} can't be used");
        return Some(Finding::Missing(title, why, hint));
    }
    is_open(&metadata).then(|| {
        Finding::Missing(
            format!("all users of this host can read the {what} of the {owner}"),
            format!("its file has mode {}", mode(&Some(metadata))),
            format!("chmod 0640 {}", path.display()),
        )
    })
}

/// Why a program can't be run. One without a slash is looked for in the search path, as it is
/// when it is run.
fn program(path: &Path) -> Option<Lack> {
    let runs = |metadata: &Metadata| {
        metadata.is_file() && metadata.permissions().mode() & RUN_BY_SOMEBODY != 0
    };
    if path.components().count() > 1 || path.is_absolute() {
        return lacking(path, runs);
    }
    let folders = env::var_os("PATH").unwrap_or_else(|| SEARCH_PATH.into());
    let mut lacks = Vec::new();
    for folder in env::split_paths(&folders) {
        lacks.push(lacking(&folder.join(path), runs)?);
    }
    let denied = lacks.into_iter().find(|lack| lack.is_denied);
    Some(denied.unwrap_or_else(|| Lack {
        why: format!("{} is not in the search path", quoted(&path.display().to_string())),
        is_denied: false,
    }))
}

fn is_open(metadata: &Metadata) -> bool {
    metadata.mode() & READ_BY_ALL != 0
}

fn mode(metadata: &Option<Metadata>) -> String {
    metadata
        .as_ref()
        .map_or_else(String::new, |metadata| format!("{:04o}", metadata.mode() & 0o7777))
}

/// Why a path is missing or of the wrong type.
fn lacking(path: &Path, is_good: impl Fn(&Metadata) -> bool) -> Option<Lack> {
    match fs::metadata(path) {
        Ok(metadata) if is_good(&metadata) => None,
        Ok(_) => Some(Lack { why: "the path is of another type".to_owned(), is_denied: false }),
        Err(error) => Some(Lack {
            why: format!("{}: {error}", quoted(&path.display().to_string())),
            is_denied: error.kind() == ErrorKind::PermissionDenied,
        }),
    }
}

/// Whether the directory of a path is missing.
fn directory(path: &Path, hint: &str) -> Option<Finding> {
    let folder = path.parent()?;
    let title = format!("directory {} does not exist", quoted(&folder.display().to_string()));
    lacking(folder, Metadata::is_dir)?.finding(title, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_be_looked_at_is_not_missing() {
        let lack = |is_denied| Lack { why: "\"/x\": no".to_owned(), is_denied };
        let finding = |is_denied| lack(is_denied).finding("x is missing".to_owned(), "make it");
        assert!(
            matches!(finding(true), Some(Finding::Unseen(title, ..)) if title.starts_with("no permission"))
        );
        assert!(
            matches!(finding(false), Some(Finding::Missing(title, ..)) if title == "x is missing")
        );
    }
}
