//! `ringlane ctl reload`, `plan`, `history` and `rollback`.
//!
//! Not here: the reload itself (`control::run::reload`).

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::request::{AdminAddress, Request, ask};

/// Has the configuration read again, or another file served in its place.
pub(super) fn reload(
    place: &AdminAddress,
    file: Option<&Path>,
    expect: Option<u64>,
    json: bool,
) -> Result<String, String> {
    let reply = match file {
        None => ask(place, Request::post(&with_expect("/v1/reload", expect), ""))?,
        Some(file) => ask(place, Request::put(&with_expect("/v1/config", expect), &text(file)?))?,
    };
    served(place, reply, json)
}

/// Serves an earlier configuration again.
pub(super) fn rollback(
    place: &AdminAddress,
    generation: u64,
    expect: Option<u64>,
    json: bool,
) -> Result<String, String> {
    let path = with_expect(&format!("/v1/snapshots/{generation}/rollback"), expect);
    served(place, ask(place, Request::post(&path, ""))?, json)
}

/// Shows what a reload would change.
pub(super) fn plan(
    place: &AdminAddress,
    file: Option<&Path>,
    json: bool,
) -> Result<String, String> {
    let text = file.map(text).transpose()?.unwrap_or_default();
    let reply = ask(place, Request::post("/v1/plan", &text))?;
    if json {
        return Ok(reply);
    }
    let page = parsed(place, &reply)?;
    let mut shown = listed(&page, "warnings", "warning: ") + &listed(&page, "changes", "");
    if page["changes"].as_array().is_none_or(Vec::is_empty) {
        shown.push_str("nothing would change\n");
    }
    let _ = writeln!(shown, "generation {} → {}", page["from"], page["generation"]);
    Ok(shown)
}

/// Lists the configurations that were served.
pub(super) fn history(place: &AdminAddress, json: bool) -> Result<String, String> {
    let reply = ask(place, Request::get("/v1/snapshots"))?;
    if json {
        return Ok(reply);
    }
    let page = parsed(place, &reply)?;
    let mut shown = String::new();
    for one in page["snapshots"].as_array().into_iter().flatten() {
        let mark = if one["current"] == true { "*" } else { " " };
        let (at, by) = (one["at"].as_str().unwrap_or("-"), one["by"].as_str().unwrap_or("-"));
        let _ = writeln!(shown, "{mark} {:>4}  {at}  {by}", one["generation"].to_string());
    }
    Ok(shown)
}

fn with_expect(path: &str, expect: Option<u64>) -> String {
    expect.map_or_else(|| path.to_owned(), |expect| format!("{path}?expect={expect}"))
}

fn text(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}

fn parsed(place: &AdminAddress, reply: &str) -> Result<Value, String> {
    serde_json::from_str(reply)
        .map_err(|error| format!("the reply from {place} is not JSON: {error}"))
}

/// What was changed by a reload.
fn served(place: &AdminAddress, reply: String, json: bool) -> Result<String, String> {
    if json {
        return Ok(reply);
    }
    let page = parsed(place, &reply)?;
    let mut shown = listed(&page, "warnings", "warning: ") + &listed(&page, "changes", "");
    let _ = writeln!(shown, "generation {} is served", page["generation"]);
    Ok(shown)
}

fn listed(page: &Value, key: &str, mark: &str) -> String {
    let lines = page[key].as_array().into_iter().flatten().filter_map(Value::as_str);
    lines.fold(String::new(), |text, line| text + mark + line + "\n")
}
