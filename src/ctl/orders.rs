//! `ringlane ctl server`, `frontend` and `changes`: orders, and what became of them.
//!
//! Not here: how orders are carried out (`control::report::admin`). Invariant: an order counts as
//! done only if the balancer confirms it.

use serde_json::{Value, json};

use super::names::{choose, escaped, hint, splits};
use super::request::{AdminAddress, Request, ask};
use super::table::printable;
use super::{FrontendOrder, Limit, ServerOrder, parsed};

/// The body of an order for a server.
pub(super) fn of_server(order: &ServerOrder) -> Result<Value, String> {
    Ok(match order {
        ServerOrder::Ready => json!({ "state": "ready" }),
        ServerOrder::Drain => json!({ "state": "drain" }),
        ServerOrder::Maint => json!({ "state": "maint" }),
        ServerOrder::Weight { weight } => json!({ "weight": weight }),
        ServerOrder::MaxConnections { max: Limit(max) } => json!({ "max_connections": max }),
        ServerOrder::Other(words) => {
            let word = words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
            return Err(format!(
                "\"{}\" is not an order: write ready, drain, maint, weight N or max-connections N",
                printable(&word)
            ));
        }
    })
}

/// Gives an order to a server.
pub(super) fn server(
    place: &AdminAddress,
    name: &str,
    body: &Value,
    json: bool,
) -> Result<String, String> {
    let path = server_path(place, name)?;
    confirmed(place, name, json, &ask(place, Request::post(&path, &body.to_string()))?)
}

/// The path of a server.
pub(super) fn server_path(place: &AdminAddress, name: &str) -> Result<String, String> {
    let page;
    let (backend, server) = match splits(name)[..] {
        [] => {
            let why = format!("\"{name}\" is not the name of a server: write BACKEND/SERVER");
            let status = ask(place, Request::get("/status")).and_then(|text| parsed(place, &text));
            return Err(why + &status.map(|status| hint(name, &status)).unwrap_or_default());
        }
        [(backend, server)] => (backend, server),
        // Names may contain slashes: the status shows which split is meant.
        ref splits => {
            page = ask(place, Request::get("/status"))?;
            choose(name, splits, &parsed(place, &page)?)?
        }
    };
    Ok(format!("/v1/backends/{}/servers/{}", escaped(backend), escaped(server)))
}

/// Gives an order to a frontend.
pub(super) fn frontend(
    place: &AdminAddress,
    name: &str,
    order: &FrontendOrder,
    json: bool,
) -> Result<String, String> {
    let body = match order {
        FrontendOrder::Pause => json!({ "paused": true }),
        FrontendOrder::Resume => json!({ "paused": false }),
        FrontendOrder::MaxConnections { max: Limit(max) } => json!({ "max_connections": max }),
    };
    let path = format!("/v1/frontends/{}", escaped(name));
    confirmed(place, name, json, &ask(place, Request::post(&path, &body.to_string()))?)
}

/// Puts a change back.
pub(super) fn put_back(place: &AdminAddress, id: u64, json: bool) -> Result<String, String> {
    let reply = ask(place, Request::delete(&format!("/v1/changes/{id}")))?;
    confirmed(place, &format!("change {id}"), json, &reply)
}

fn confirmed(place: &AdminAddress, name: &str, json: bool, text: &str) -> Result<String, String> {
    let reply: Value = serde_json::from_str(text).unwrap_or_default();
    if reply["ok"] != true {
        return Err(format!("{place} did not confirm the order: check the admin address"));
    }
    Ok(if json { text.to_owned() } else { format!("{name}: done\n") })
}

/// What was changed at run time: a line each, JSON, or what to write into the file.
pub(super) fn changes(place: &AdminAddress, toml: bool, json: bool) -> Result<String, String> {
    let text = ask(place, Request::get("/v1/changes"))?;
    let page: Value = serde_json::from_str(&text).unwrap_or_default();
    let Some(changes) = page["changes"].as_array() else {
        return Err(format!("the reply from {place} has no changes: check the admin address"));
    };
    Ok(match (json, toml) {
        (true, _) => text,
        (_, true) => changes.iter().map(in_file).collect(),
        _ if changes.is_empty() => "nothing was changed at run time\n".to_owned(),
        _ => changes.iter().map(line).collect(),
    })
}

fn line(change: &Value) -> String {
    let word = |key: &str| printable(change[key].as_str().unwrap_or_default());
    let (key, from, to) = (word("key"), shown(&change["from"]), shown(&change["to"]));
    format!(
        "{:>4}  {}  {key} = {to} (was {from}), {} by {}\n",
        change["id"].as_u64().unwrap_or_default(),
        object(change),
        word("at"),
        word("by"),
    )
}

fn object(change: &Value) -> String {
    let word = |key: &str| change[key].as_str().map(printable);
    match (word("frontend"), word("backend"), word("server")) {
        (Some(frontend), ..) => format!("frontend {frontend}"),
        (_, Some(backend), Some(server)) => format!("server {backend}/{server}"),
        _ => "?".to_owned(),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => printable(text),
        other => other.to_string(),
    }
}

/// The lines for the configuration file.
fn in_file(change: &Value) -> String {
    let (key, to) = (change["key"].as_str().unwrap_or_default(), &change["to"]);
    let object = object(change);
    match key {
        "paused" => format!("# {object}: paused, which the file has no key for\n"),
        _ if to.is_null() => format!("# {object}: remove {key}\n"),
        _ => format!("# {object}:\n{key} = {to}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_order_is_refused_with_those_that_are() {
        let error = of_server(&ServerOrder::Other(vec!["up".into()])).unwrap_err();
        let orders = "write ready, drain, maint, weight N or max-connections N";
        assert_eq!(error, format!("\"up\" is not an order: {orders}"));
    }

    #[test]
    fn changes_are_lines_for_people_and_for_the_file() {
        let change = json!({
            "id": 3, "backend": "b", "server": "s\u{1b}", "key": "weight", "from": 1, "to": 5,
            "by": "uid 0, pid 7", "at": "2026-01-02T03:04:05.000Z",
        });
        let expected = "   3  server b/s\\u{1b}  weight = 5 (was 1), 2026-01-02T03:04:05.000Z by \
                        uid 0, pid 7\n";
        assert_eq!(line(&change), expected);
        assert_eq!(in_file(&change), "# server b/s\\u{1b}:\nweight = 5\n");
        let limit = json!({ "frontend": "f", "key": "max_connections", "from": 7, "to": null });
        assert_eq!(in_file(&limit), "# frontend f: remove max_connections\n");
        let state = json!({ "backend": "b", "server": "s", "key": "state", "to": "drain" });
        assert_eq!(in_file(&state), "# server b/s:\nstate = \"drain\"\n");
    }
}
