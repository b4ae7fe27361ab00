//! What changes of the configuration mean for the sessions that live now.
//!
//! Not here: the changes (`config::diff`).

use ringlane_core::ids::{BackendId, FrontendId, ServerId};

use crate::config::{self, Difference, Effect, ObjectKind};
use crate::control::running::Running;

/// Changes that a log line names.
const CHANGES_NAMED: usize = 8;

/// The changes as lines for people, with the number of live sessions that each touches.
pub(super) fn changes(differences: &[Difference], running: &Running) -> Vec<String> {
    let text = config::describe(differences, |difference| note(difference, running));
    text.lines().map(str::to_owned).collect()
}

/// The live sessions that a change touches, if there are any.
fn note(difference: &Difference, running: &Running) -> Option<String> {
    let live = live(difference, running).filter(|live| *live > 0)?;
    let sessions = if live == 1 { "1 live session".to_owned() } else { format!("{live} live") };
    Some(match difference.effect {
        Effect::New => format!("{sessions} as before"),
        _ => sessions,
    })
}

/// The live sessions of an object of the configuration that is served.
fn live(difference: &Difference, running: &Running) -> Option<u32> {
    let traffic = &running.traffic;
    let (snapshot, gauges) = (&traffic.snapshot, &traffic.gauges);
    let name = &difference.name;
    let of_servers = |ids: &mut dyn Iterator<Item = ServerId>| -> u32 {
        ids.map(|id| gauges.server(id).sessions()).sum()
    };
    match difference.kind {
        ObjectKind::Global => None,
        ObjectKind::Frontend => {
            let place = snapshot.frontends.iter().position(|one| one.name == *name)?;
            Some(gauges.frontend(FrontendId(u32::try_from(place).ok()?)).live())
        }
        ObjectKind::Backend => {
            let place = snapshot.backends.iter().position(|one| one.name == *name)?;
            let id = BackendId(u32::try_from(place).ok()?);
            Some(of_servers(&mut snapshot.ids_of(id)))
        }
        ObjectKind::Server => {
            let ids = (0..).map(ServerId).take(snapshot.servers.len());
            Some(of_servers(&mut ids.filter(|id| snapshot.full_name(*id) == *name)))
        }
    }
}

/// What has changed, in one line that is not too long.
pub(super) fn summary(changes: &[String]) -> String {
    if changes.is_empty() {
        return "nothing has changed".to_owned();
    }
    let words = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut parts: Vec<String> = changes.iter().take(CHANGES_NAMED).map(words).collect();
    if let Some(more) = changes.len().checked_sub(CHANGES_NAMED).filter(|more| *more > 0) {
        parts.push(format!("and {more} more changes"));
    }
    parts.join("; ")
}
