//! The command line: the commands of `ringlane` and their options.
//!
//! Not here: what the commands do. Results go to stdout, errors to stderr as whole sentences. Exit
//! codes: 0 on success, 1 on failure, wrong use of the command line included; `config diff` has 2
//! for differences.

mod configs;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{self, Config, Report};
use crate::control::log::{Level, Notice};
use crate::control::{Supervisor, log};
use crate::ctl::{self, Ctl};
use crate::demo;

/// The version of the program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The revision of the sources that it was built from.
pub(crate) const REVISION: &str = env!("RINGLANE_REVISION");

/// What `--version` prints behind the name.
const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("RINGLANE_REVISION"), ")");

/// A load balancer for bare metal: one io_uring ring and one pinned shard per CPU core.
#[derive(Debug, Parser)]
#[command(name = "ringlane", version = LONG_VERSION, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the balancer until SIGTERM or SIGINT.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration file, and show all its errors and likely mistakes.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Treat warnings as errors.
        #[arg(long)]
        strict: bool,
    },
    /// Compare or show configurations, without a running balancer.
    Config {
        #[command(subcommand)]
        action: configs::Action,
    },
    /// Run a demo on this machine: three servers, steady load, and one server that fails.
    Demo {
        /// Stop after this time, such as 20s or 1m [default: on Ctrl-C].
        #[arg(long = "for", value_name = "TIME", value_parser = config::parse_duration)]
        time: Option<Duration>,
    },
    /// Show the status of a running balancer, take servers out, and put them back.
    Ctl(Ctl),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Check this machine's settings and recommend changes, with reasons. Changes nothing.
    Tune,
}

/// Runs the command that the arguments give; the first one is the name of the program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // To stdout for --help and --version, to stderr otherwise.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let code = match arguments.command {
        Command::Run { config } => balance(&config),
        Command::Check { config, strict } => finish(check(&config, strict)),
        Command::Config { action } => configs::run(&action),
        Command::Demo { time } => demo::run(time),
        Command::Ctl(ctl) => match ctl::run(ctl, wants_colour(&io::stdout())) {
            Ok(text) => finish(Ok::<_, Report>(text)),
            Err(failure) => {
                let code = failure.code;
                finish(Err(failure));
                ExitCode::from(code)
            }
        },
        Command::Completions { shell } => finish(Ok::<_, Report>(completions(shell))),
        Command::Tune => finish(Ok::<_, Report>(ringlane_tuning::report())),
    };
    log::flush();
    code
}

/// A script for a shell.
fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "ringlane", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn balance(file: &Path) -> ExitCode {
    let config = match config::load(file) {
        Ok(config) => config,
        Err(report) => {
            return finish(Err::<String, _>(shown(&report)));
        }
    };
    for warning in config.warnings.lines() {
        // The line has its level already.
        log::warning(format_args!("{}", warning.strip_prefix("warning: ").unwrap_or(&warning)));
    }
    match Supervisor::start(config) {
        Ok(supervisor) => supervisor.serve(),
        Err(error) => {
            log::announce(&Notice::new(Level::Error, "start_failed", error.to_string()));
            ExitCode::FAILURE
        }
    }
}

/// Checks a configuration file and touches nothing else. Returns a summary if it is valid;
/// warnings go to stderr, or count as errors if `strict` is set, unless this user may not see
/// whether they are right.
fn check(file: &Path, strict: bool) -> Result<String, String> {
    let Config { snapshot, warnings, .. } =
        config::load(file).map_err(|report| counted(file, &report))?;
    let warnings = if strict { warnings.strict() } else { warnings };
    if warnings.errors() > 0 {
        return Err(counted(file, &warnings));
    }
    let ok = match warnings.warnings() {
        0 => "ok".to_owned(),
        n => {
            let _ = io::stderr().write_all(format!("{}\n\n", shown(&warnings)).as_bytes());
            format!("ok, {}", count(n, "warning"))
        }
    };
    Ok(format!(
        "{}: {ok} ({}, {}, {})\n",
        file.display(),
        count(snapshot.frontends.len(), "frontend"),
        count(snapshot.backends.len(), "backend"),
        count(snapshot.servers.len(), "server"),
    ))
}

/// A report with how much is in it.
fn counted(file: &Path, report: &Report) -> String {
    let mut counts = count(report.errors(), "error");
    if report.warnings() > 0 {
        counts += &format!(", {}", count(report.warnings(), "warning"));
    }
    format!("{}\n\n{}: {counts}", shown(report), file.display())
}

/// A report as stderr shows it.
fn shown(report: &Report) -> String {
    report.render(wants_colour(&io::stderr()))
}

/// Whether output to a stream is coloured.
fn wants_colour(stream: &impl IsTerminal) -> bool {
    let variable = |name| env::var_os(name).unwrap_or_default();
    stream.is_terminal() && can_colour(&variable("NO_COLOR"), &variable("TERM"))
}

/// Whether a terminal is given colour: unless `NO_COLOR` is set (no-color.org) or it has none.
fn can_colour(no_color: &OsStr, term: &OsStr) -> bool {
    no_color.is_empty() && term != "dumb"
}

fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Prints a result and turns it into an exit code.
fn finish(outcome: Result<String, impl Display>) -> ExitCode {
    match outcome {
        Ok(text) => match print(&text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => finish(Err::<String, _>(format!("cannot write to stdout: {error}"))),
        },
        Err(report) => {
            let _ =
                io::stderr().write_all(format!("{}\n", report.to_string().trim_end()).as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// Writes a result to stdout. A reader that went away (`ringlane tune | head`) is no error.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [[frontend]]
        name = "web"
        bind = "127.0.0.1:0"
        mode = "tcp"
        backend = "app"

        [[backend]]
        name = "app"
        server = [
            { name = "one", address = "127.0.0.1:1001" },
            { name = "two", address = "127.0.0.1:1002" },
        ]
    "#;

    fn check_text(text: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("test.toml");
        std::fs::write(&file, text).unwrap();
        let outcome = check(&file, false);
        outcome.map(|text| text.replace(&file.display().to_string(), "test.toml"))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn completions_know_the_commands_of_ctl() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completions(shell);
            assert!(script.contains("frontend") && script.contains("max-connections"), "{shell}");
        }
    }

    #[test]
    fn the_version_has_the_revision_of_the_sources_with_it() {
        let error = Arguments::try_parse_from(["ringlane", "--version"]).unwrap_err();
        assert_eq!(error.to_string(), format!("ringlane {VERSION} ({REVISION})\n"));
        assert!(REVISION == "unknown" || REVISION.len() >= 7, "{REVISION}");
    }

    #[test]
    fn check_counts_what_a_good_file_has() {
        let expected = "test.toml: ok (1 frontend, 1 backend, 2 servers)\n";
        assert_eq!(check_text(GOOD).as_deref(), Ok(expected));
    }

    #[test]
    fn check_reports_what_is_wrong_with_file_and_line() {
        let report = check_text(&GOOD.replace("backend = \"app\"", "upstream = \"app\""));
        let report = report.unwrap_err();
        assert!(report.contains("test.toml:6"), "{report}");
        assert!(report.contains("upstream") && report.contains("backend"), "{report}");
    }

    #[test]
    fn check_says_which_file_is_missing() {
        let report = check(Path::new("no/such/file.toml"), false).unwrap_err();
        assert!(report.contains("no/such/file.toml"), "{report}");
    }

    #[test]
    fn no_color_switches_colour_off() {
        for (no_color, term, expected) in
            [("", "xterm", true), ("", "", true), ("1", "xterm", false), ("", "dumb", false)]
        {
            assert_eq!(can_colour(no_color.as_ref(), term.as_ref()), expected, "{no_color} {term}");
        }
    }

    #[test]
    fn times_are_written_as_in_the_configuration() {
        let parse = |time: &str| {
            let arguments = Arguments::try_parse_from(["ringlane", "demo", "--for", time]).ok()?;
            let Command::Demo { time } = arguments.command else { return None };
            time
        };
        assert_eq!(parse("20s"), Some(Duration::from_secs(20)));
        assert_eq!(parse("1m30s"), Some(Duration::from_secs(90)));
        for text in ["", "20", "-5s", "0s", "soon"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn commands_are_told_apart() {
        let parse = |words: &[&str]| Arguments::try_parse_from(words).map(|a| a.command);
        assert!(matches!(
            parse(&["ringlane", "demo", "--for", "20s"]),
            Ok(Command::Demo { time: Some(time) }) if time == Duration::from_secs(20)
        ));
        assert!(matches!(parse(&["ringlane", "tune"]), Ok(Command::Tune)));
        assert!(parse(&["ringlane", "run"]).is_err(), "--config is needed");
        assert!(parse(&["ringlane"]).is_err());
    }
}
