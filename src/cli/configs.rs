//! `ringlane config`: what can be learned of configuration files without a running balancer.
//!
//! Not here: comparing and printing (`config`), checking (`ringlane check`), and what a reload of a
//! running balancer would do (`ringlane ctl plan`, which knows its live sessions).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::{counted, finish, print};
use crate::config::{self, Config, Difference};

/// The exit code for files that differ, as terraform has it.
const DIFFERENT: u8 = 2;

/// What is asked.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Show what differs between two files, and what each difference does at a reload.
    ///
    /// Exit codes: 0 nothing differs, 2 something differs, 1 a file is broken, or a reload would
    /// refuse a difference.
    #[command(after_help = "Example: ringlane config diff /etc/ringlane/ringlane.toml new.toml")]
    Diff {
        /// The old configuration file.
        #[arg(value_name = "OLD")]
        old: PathBuf,
        /// The new configuration file.
        #[arg(value_name = "NEW")]
        new: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the effective configuration: all files joined, defaults written out, passwords masked.
    #[command(after_help = "Example: ringlane config show /etc/ringlane/ringlane.toml")]
    Show {
        /// The configuration file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Does what is asked; the result goes to stdout.
pub(super) fn run(action: &Action) -> ExitCode {
    match action {
        Action::Diff { old, new, json } => match difference(old, new, *json) {
            Ok((text, code)) => match print(&text) {
                Ok(()) => code,
                Err(error) => finish(Err::<String, _>(format!("cannot write to stdout: {error}"))),
            },
            Err(why) => finish(Err::<String, _>(why)),
        },
        Action::Show { file, json } => finish(show(file, *json)),
    }
}

fn load(file: &Path) -> Result<Config, String> {
    config::load(file).map_err(|report| counted(file, &report))
}

fn difference(old: &Path, new: &Path, json: bool) -> Result<(String, ExitCode), String> {
    // Both are read before either is complained about.
    let (old, new) = match (load(old), load(new)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(old), Err(new)) => return Err(format!("{old}\n\n{new}")),
        (Err(why), _) | (_, Err(why)) => return Err(why),
    };
    let differences = config::diff(&old.objects, &new.objects);
    let refused: Vec<&Difference> = differences.iter().filter(|one| one.is_refused()).collect();
    let code = match (differences.is_empty(), refused.is_empty()) {
        (true, _) => ExitCode::SUCCESS,
        (_, true) => ExitCode::from(DIFFERENT),
        _ => ExitCode::FAILURE,
    };
    if json {
        let all: Vec<serde_json::Value> = differences.iter().map(Difference::json).collect();
        let page = json!({ "differences": all, "refused": refused.len() });
        return Ok((format!("{page:#}\n"), code));
    }
    let mut text = config::describe(&differences, |_| None);
    text += &match (differences.len(), refused.len()) {
        (0, _) => "no difference\n".to_owned(),
        (all, 0) => format!("{}; a reload refuses nothing\n", super::count(all, "difference")),
        (all, some) => {
            format!("{}; a reload refuses {some} of them\n", super::count(all, "difference"))
        }
    };
    Ok((text, code))
}

fn show(file: &Path, json: bool) -> Result<String, String> {
    let config = load(file)?;
    let files: Vec<&str> = config.sources.texts().map(|(name, _)| name).collect();
    if json {
        let mut page = config.to_json();
        page["files"] = json!(files);
        return Ok(format!("{page:#}\n"));
    }
    // Names of files may contain anything, and each stands on a line of its own.
    let files: Vec<String> = files.iter().map(|name| format!("# from {name:?}\n")).collect();
    Ok(format!("{}{}", files.concat(), config.to_toml()))
}
