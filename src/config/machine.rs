//! Warnings about what a configuration needs and the host lacks: files, programs, sockets.
//!
//! Readers record each [`Requirement`] with its place in the file. The host is checked only for a
//! file on disk, never for a text. What is missing is only a warning, because it may be created
//! later: a password by a secret store, a directory by systemd. Invariants: nothing is opened that
//! could block, and no content is read.

use std::env;
use std::fs::{self, Metadata};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::text::report::{Diagnostic, Diagnostics, quoted};
use super::text::requirement::Requirement;

/// Mode bit: readable by all users.
const READ_BY_ALL: u32 = 0o004;

/// Mode bits: executable by owner, group or others.
const RUN_BY_SOMEBODY: u32 = 0o111;

/// Records a warning for everything that the host lacks. `file` is the configuration file.
pub(super) fn look(
    sink: &Diagnostics,
    wanted: Vec<(Range<usize>, String, Requirement)>,
    file: &Path,
) {
    let mut is_told = false;
    for (span, owner, wanted) in wanted {
        if matches!(wanted, Requirement::OwnSecret) && std::mem::replace(&mut is_told, true) {
            continue;
        }
        if let Some((title, label, hint)) = missing(&owner, &wanted, file) {
            sink.add(Diagnostic::at(span, title).label(label).hint(hint).warning());
        }
    }
}

/// What is missing on the host: title, label and hint of a warning.
type Finding = (String, String, String);

fn missing(owner: &str, wanted: &Requirement, file: &Path) -> Option<Finding> {
    match wanted {
        Requirement::Password(path) => password(owner, path),
        Requirement::Variable(name) => match env::var_os(name) {
            Some(value) if !value.is_empty() => None,
            _ => Some((
                format!("the password of the {owner} is not set"),
                format!("environment variable {} is not set", quoted(name)),
                "set it where the balancer is started; until then, the check fails".to_owned(),
            )),
        },
        Requirement::OwnSecret => is_open(&fs::metadata(file).ok()?).then(|| {
            (
                format!("all users of this host can read the password of the {owner}"),
                format!("the configuration file has mode {}", mode(&fs::metadata(file).ok())),
                "use password = { file = \"/etc/ringlane/check.pass\" }, or chmod o-r the file"
                    .to_owned(),
            )
        }),
        Requirement::File(path) => lacking(path, |metadata| metadata.is_file()).map(|why| {
            let hint = "create it; until then, the check fails";
            (format!("the ca file of the {owner} can't be used"), why, hint.to_owned())
        }),
        Requirement::Program(path) => {
            let runs = |metadata: &Metadata| {
                metadata.is_file() && metadata.permissions().mode() & RUN_BY_SOMEBODY != 0
            };
            lacking(path, runs).map(|why| {
                let hint = "install it and make it executable; until then, the check fails";
                (format!("the program of the {owner} can't be run"), why, hint.to_owned())
            })
        }
        Requirement::SocketFolder(path) => folder(path).map(|(folder, why)| {
            let hint = "it is created at the start if permissions allow; with systemd, set \
                        RuntimeDirectory";
            (format!("directory {folder} does not exist"), why, hint.to_owned())
        }),
        Requirement::LogFolder(path) => folder(path).map(|(folder, why)| {
            let hint = "create it, owned by the user of the balancer";
            (format!("directory {folder} does not exist"), why, hint.to_owned())
        }),
        Requirement::Socket(path) => lacking(path, |_| true).map(|why| {
            let hint = "start the program that listens on it";
            (format!("the socket of {owner} does not exist"), why, hint.to_owned())
        }),
    }
}

fn password(owner: &str, path: &Path) -> Option<Finding> {
    let Ok(metadata) = fs::metadata(path) else {
        let why = lacking(path, |_| true)?;
        let hint = "create it with the password as its first line, readable only by the user of \
                    the balancer; until then, the check fails";
        return Some((format!("the password of the {owner} is missing"), why, hint.to_owned()));
    };
    if !metadata.is_file() {
        let why = "not a regular file".to_owned();
        let hint = "use a file whose first line is the password".to_owned();
        return Some((format!("the password of the {owner} can't be used"), why, hint));
    }
    is_open(&metadata).then(|| {
        (
            format!("all users of this host can read the password of the {owner}"),
            format!("its file has mode {}", mode(&Some(metadata))),
            format!("chmod 0640 {}", path.display()),
        )
    })
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
fn lacking(path: &Path, is_good: impl Fn(&Metadata) -> bool) -> Option<String> {
    match fs::metadata(path) {
        Ok(metadata) if is_good(&metadata) => None,
        Ok(_) => Some("the path is of another type".to_owned()),
        Err(error) => Some(format!("{}: {error}", quoted(&path.display().to_string()))),
    }
}

/// The directory of a path, if it is missing, and why.
fn folder(path: &Path) -> Option<(String, String)> {
    let folder = path.parent()?;
    let why = lacking(folder, Metadata::is_dir)?;
    Some((quoted(&folder.display().to_string()), why))
}
