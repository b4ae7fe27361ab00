//! What a reload changes: the configuration before and after, for every relay the same.
//!
//! Changes alternate: servers and limits, then listeners. Invariant: every second change of a kind
//! takes back the one before, so that any number of reloads stays within two servers, one listener
//! and one limit.

use std::net::SocketAddr;
use std::path::Path;

/// The limits of sessions between which reloads change. Both are above what is measured.
const LIMITS: [u32; 2] = [5000, 5500];

/// What a reload is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A server is added or removed, and the limit of sessions changes.
    Servers,
    /// A listener is added or removed.
    Listeners,
}

impl Kind {
    /// Both, in the order of reloads.
    pub(super) const ALL: [Self; 2] = [Self::Servers, Self::Listeners];

    /// The label of its events.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Servers => "servers",
            Self::Listeners => "listeners",
        }
    }
}

/// What can differ between two configurations.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct State {
    /// Whether the third server is there.
    pub(super) has_third: bool,
    /// Whether the second listener is there.
    pub(super) has_extra: bool,
    limit: u32,
}

impl State {
    /// Before the first reload: all servers, so that the first one to be removed has sessions.
    pub(super) fn first() -> Self {
        Self { has_third: true, has_extra: false, limit: LIMITS[0] }
    }

    /// After one more reload of this kind.
    pub(super) fn after(self, kind: Kind) -> Self {
        match kind {
            Kind::Servers => {
                let limit = if self.limit == LIMITS[0] { LIMITS[1] } else { LIMITS[0] };
                Self { has_third: !self.has_third, limit, ..self }
            }
            Kind::Listeners => Self { has_extra: !self.has_extra, ..self },
        }
    }
}

/// Addresses that are the same before and after every reload.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    /// Where the load goes.
    pub(super) listen: SocketAddr,
    /// Where the second listener is when it is there.
    pub(super) extra: SocketAddr,
    pub(super) servers: [String; 3],
}

/// A template with all words filled in; lines that belong to what is not there are left out.
pub(super) fn fill(
    template: &str,
    state: State,
    addresses: &Addresses,
    driver: &str,
    folder: &Path,
) -> String {
    let optional = [("@third", state.has_third), ("@extra", state.has_extra)];
    let mut text = String::new();
    for line in template.lines() {
        let mark = optional.iter().find_map(|(mark, is_there)| {
            line.strip_prefix(mark).map(|rest| is_there.then_some(rest))
        });
        if let Some(line) = mark.unwrap_or(Some(line)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    let [a, b, c] = &addresses.servers;
    text.replace("@LISTEN@", &addresses.listen.to_string())
        .replace("@EXTRA@", &addresses.extra.to_string())
        .replace("@SERVER_A@", a)
        .replace("@SERVER_B@", b)
        .replace("@SERVER_C@", c)
        .replace("@LIMIT@", &state.limit.to_string())
        .replace("@DRIVER@", driver)
        .replace("@FOLDER@", &folder.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::relay::template;
    use super::*;
    use crate::relay::Relay;

    #[test]
    fn two_changes_of_a_kind_are_none() {
        for kind in Kind::ALL {
            let changed = State::first().after(kind);
            assert_ne!(changed, State::first(), "{kind:?}");
            assert_eq!(changed.after(kind), State::first(), "{kind:?}");
        }
    }

    #[test]
    fn templates_have_what_the_state_has() {
        let addresses = Addresses {
            listen: "127.0.0.1:7001".parse().unwrap(),
            extra: "127.0.0.1:7002".parse().unwrap(),
            servers: [1, 2, 3].map(|nth| format!("127.0.0.1:800{nth}")),
        };
        for relay in [Relay::Ringlane, Relay::Haproxy, Relay::Nginx] {
            let template = template(relay).unwrap();
            for state in [State::first(), State::first().after(Kind::Servers)] {
                for state in [state, state.after(Kind::Listeners)] {
                    let text = fill(template, state, &addresses, "epoll", Path::new("/nowhere"));
                    assert!(!text.contains('@'), "{text}");
                    let has = |address: &str| text.contains(address);
                    assert!(has("127.0.0.1:7001") && has("127.0.0.1:8002"), "{text}");
                    assert_eq!(has("127.0.0.1:8003"), state.has_third, "{text}");
                    assert_eq!(has("127.0.0.1:7002"), state.has_extra, "{text}");
                    assert!(has(&state.limit.to_string()), "{text}");
                }
            }
        }
    }
}
