//! Another configuration for a running balancer.

use std::fs;
use std::process::Command;

use super::balancer::{Ringlane, path_str};

impl Ringlane {
    /// A whole configuration for it, with these frontends and backends.
    pub(crate) fn config(&self, body: &str) -> String {
        format!("{}{body}", self.before_body)
    }

    /// Writes a file into its directory; where it is.
    pub(crate) fn write_file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path_str(&path).to_owned()
    }

    /// Writes its configuration anew, with these frontends and backends.
    pub(crate) fn write_config(&self, body: &str) {
        self.write_file("ringlane.toml", &self.config(body));
    }

    /// Has it serve other frontends and backends; what `ctl reload` prints.
    pub(crate) fn try_reload(&self, body: &str) -> Result<String, String> {
        self.try_reload_whole(&self.config(body))
    }

    /// Has it serve another configuration.
    pub(crate) fn try_reload_whole(&self, text: &str) -> Result<String, String> {
        self.write_file("ringlane.toml", text);
        self.ctl(&["reload"])
    }

    /// Has it serve other frontends and backends.
    #[track_caller]
    pub(crate) fn reload(&self, body: &str) -> String {
        self.try_reload(body).unwrap()
    }

    /// Runs `ringlane ctl`; what it prints, or its error.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Result<String, String> {
        let socket = self.admin_socket();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringlane"));
        command.args(["ctl", "--socket", path_str(&socket)]).args(arguments);
        let output = command.output().unwrap();
        let [out, err] =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        if output.status.success() { Ok(out) } else { Err(err) }
    }
}
