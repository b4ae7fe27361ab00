//! Frontends, backends and servers by the names in a request.
//!
//! Not here: names in the configuration file (`config`). Invariant: a name that does not exist is
//! answered with 404 and the nearest one that does.

use axum::http::StatusCode;
use ringlane_core::ids::{BackendId, FrontendId, ServerId};
use ringlane_core::settings::Snapshot;

use crate::config::nearest_name;

/// Why a request can't be answered: a status and a sentence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::control) struct Refusal(
    pub(in crate::control) StatusCode,
    pub(in crate::control) String,
);

impl Refusal {
    pub(in crate::control) fn bad(why: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, why.into())
    }

    pub(in crate::control) fn not_found(why: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, why.into())
    }
}

/// The frontend of this name.
pub(in crate::control) fn frontend(snapshot: &Snapshot, name: &str) -> Result<FrontendId, Refusal> {
    let names = || snapshot.frontends.iter().map(|frontend| frontend.name.as_str());
    let found = (0..).map(FrontendId).zip(names()).find(|(_, found)| *found == name);
    found.map(|(id, _)| id).ok_or_else(|| {
        Refusal::not_found(format!("there is no frontend \"{name}\"{}", hint(name, names())))
    })
}

/// The backend of this name.
pub(in crate::control) fn backend(snapshot: &Snapshot, name: &str) -> Result<BackendId, Refusal> {
    let names = || snapshot.backends.iter().map(|backend| backend.name.as_str());
    let found = (0..).map(BackendId).zip(names()).find(|(_, found)| *found == name);
    found.map(|(id, _)| id).ok_or_else(|| {
        Refusal::not_found(format!("there is no backend \"{name}\"{}", hint(name, names())))
    })
}

/// The server of these names.
pub(in crate::control) fn server(
    snapshot: &Snapshot,
    backend_name: &str,
    name: &str,
) -> Result<ServerId, Refusal> {
    let id = backend(snapshot, backend_name)?;
    let found = snapshot.ids_of(id).find(|id| snapshot.server(*id).name == name);
    found.ok_or_else(|| {
        let names = snapshot.servers_of(id).iter().map(|server| server.name.as_str());
        let hint = hint(name, names);
        Refusal::not_found(format!("backend \"{backend_name}\" has no server \"{name}\"{hint}"))
    })
}

/// The nearest name, if one is near.
fn hint<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    nearest_name(name, names).map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::status::tests::snapshot;

    #[test]
    fn a_name_that_is_wrong_is_answered_with_the_nearest() {
        let snapshot = snapshot();
        assert_eq!(server(&snapshot, "postgres", "pg2"), Ok(ServerId(1)));
        for (refusal, why) in [
            (
                server(&snapshot, "postgres", "pg").unwrap_err(),
                "has no server \"pg\"; did you mean",
            ),
            (server(&snapshot, "postgrse", "pg2").unwrap_err(), "did you mean \"postgres\"?"),
            (backend(&snapshot, "redis").unwrap_err(), "there is no backend \"redis\""),
            (frontend(&snapshot, "pg write").unwrap_err(), "did you mean \"pg \"write\"\"?"),
        ] {
            assert!(refusal.0 == StatusCode::NOT_FOUND && refusal.1.contains(why), "{refusal:?}");
        }
        assert!(!backend(&snapshot, "redis").unwrap_err().1.contains("did you mean"));
    }
}
