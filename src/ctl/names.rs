//! Names of servers on the command line: where backend and server are divided, and what was meant.
//!
//! Not here: names in requests (`control::report::admin::find`). Invariant: a name that may be read
//! in several ways is refused.

use serde_json::Value;

use crate::config;

/// Every way to read `BACKEND/SERVER`.
pub(super) fn splits(name: &str) -> Vec<(&str, &str)> {
    let slashes = name.match_indices('/').map(|(at, _)| (&name[..at], &name[at + 1..]));
    slashes.filter(|(backend, server)| !backend.is_empty() && !server.is_empty()).collect()
}

/// The one way to read `name` that is a server of the status.
pub(super) fn choose<'a>(
    name: &str,
    splits: &[(&'a str, &'a str)],
    status: &Value,
) -> Result<(&'a str, &'a str), String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let backends = list(&status["backends"]);
    let exists = |(backend, server): &&(&str, &str)| {
        backends
            .iter()
            .filter(|found| found["name"] == *backend)
            .any(|found| list(&found["servers"]).iter().any(|found| found["name"] == *server))
    };
    let found: Vec<_> = splits.iter().filter(exists).collect();
    match found[..] {
        [one] => Ok(*one),
        [] => Err(format!(
            "there is no server \"{name}\"{}: `ringlane ctl status --wide` lists all servers",
            hint(name, status),
        )),
        _ => Err(format!(
            "\"{name}\" is ambiguous: it may be {}; use POST /v1/backends/BACKEND/servers/SERVER \
             on the admin socket, with %2F for a slash within a name",
            found
                .iter()
                .map(|(backend, server)| format!("server \"{server}\" of backend \"{backend}\""))
                .collect::<Vec<_>>()
                .join(" or "),
        )),
    }
}

/// The nearest name of a server, as a question.
pub(super) fn hint(name: &str, status: &Value) -> String {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let servers = list(&status["backends"]).into_iter().flat_map(|backend| {
        let of = text(&backend["name"]);
        let servers = list(&backend["servers"]);
        servers.into_iter().map(move |server| (of.clone(), text(&server["name"])))
    });
    let servers: Vec<_> =
        servers.map(|(backend, server)| (format!("{backend}/{server}"), server)).collect();
    // Without the name of the backend, or with a typo.
    let own = servers.iter().find(|(_, server)| server == name).map(|(full, _)| full.as_str());
    let near = || config::nearest_name(name, servers.iter().map(|(full, _)| full.as_str()));
    own.or_else(near).map_or_else(String::new, |near| format!(", did you mean \"{near}\"?"))
}

/// As a part of a path (RFC 3986, section 2.3).
pub(super) fn escaped(name: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_slashes_is_the_server_that_there_is() {
        let server = |name: &str| serde_json::json!({ "name": name });
        let backend = |name: &str, servers: &[&str]| {
            let servers: Vec<Value> = servers.iter().map(|name| server(name)).collect();
            serde_json::json!({ "name": name, "servers": servers })
        };
        let backends = [
            backend("eu/db", &["s", "a/b", "x"]),
            backend("eu", &["db/x", "c"]),
            backend("/", &["/"]),
        ];
        let status = serde_json::json!({ "backends": backends });
        let find = |name| choose(name, &splits(name), &status);
        assert_eq!(find("eu/db/s"), Ok(("eu/db", "s")));
        assert_eq!(find("eu/db/a/b"), Ok(("eu/db", "a/b")));
        assert_eq!(find("///"), Ok(("/", "/")));
        assert!(find("eu/db/none").unwrap_err().contains("there is no server"));
        let near = find("eu/db/ss").unwrap_err();
        assert!(near.contains("\"eu/db/ss\", did you mean \"eu/db/s\"?"), "{near}");
        assert_eq!(hint("c", &status), ", did you mean \"eu/c\"?");
        let both = find("eu/db/x").unwrap_err();
        assert!(both.contains("server \"db/x\" of backend \"eu\" or server \"x\""), "{both}");
        assert_eq!(splits("db/s"), [("db", "s")]);
        assert!(splits("s").is_empty() && splits("/s").is_empty() && splits("db/").is_empty());
    }
}
