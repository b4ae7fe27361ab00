//! Routes that no session reaches, because earlier ones take all that would fit them.
//!
//! Routes are tried in order. Not here: their meaning (`ringlane_core::settings::Route`).
//! Invariant: a warning is right; what only several earlier routes together cover may go
//! unnoticed.

use ringlane_core::settings::{NamePattern, Route};

use super::read::frontend::FrontendTable;
use super::read::route::Entry;
use super::text::report::{Diagnostic, quoted};

/// Comparisons of two values for one frontend; with very many routes the last ones are not
/// examined.
const COMPARED_MAX: usize = 2_000_000;

/// Records a warning for each route, or name of one, that an earlier route covers.
pub(super) fn look(frontend: &FrontendTable<'_>) {
    let mut left = COMPARED_MAX;
    for (index, entry) in frontend.routes.iter().enumerate() {
        if !look_at_route(entry, &frontend.routes[..index], &mut left) {
            return;
        }
    }
}

/// Whether further comparisons are allowed.
fn look_at_route(entry: &Entry<'_>, earlier: &[Entry<'_>], left: &mut usize) -> bool {
    let names = entry.table.strings("sni");
    // By name of the route: the first earlier route that covers it.
    let mut covered_by: Vec<Option<&Entry<'_>>> = vec![None; names.len().max(1)];
    for first in earlier {
        let Some(rest) = left.checked_sub(cost(&first.route, &entry.route)) else { return false };
        *left = rest;
        if !covers_rest(&first.route, &entry.route) {
            continue;
        }
        let sni = &entry.route.sni;
        for (nth, by) in covered_by.iter_mut().enumerate().filter(|(_, by)| by.is_none()) {
            let is_covered = first.route.sni.is_empty()
                || sni.get(nth).is_some_and(|name| first.route.sni.iter().any(|f| covers(f, name)));
            *by = is_covered.then_some(first);
        }
    }
    if let Some(Some(first)) = covered_by.first()
        && covered_by.iter().all(Option::is_some)
    {
        report(entry, first, format!("{} can never be used", entry.table.called()), None);
        return true;
    }
    for (name, first) in names.into_iter().zip(covered_by) {
        if let Some(first) = first {
            let called = entry.table.called();
            let title = format!("sni {} of {called} can never be used", quoted(name.value));
            report(entry, first, title, Some(name.span));
        }
    }
    true
}

fn report(
    entry: &Entry<'_>,
    first: &Entry<'_>,
    title: String,
    span: Option<std::ops::Range<usize>>,
) {
    let place = |entry: &Entry<'_>| entry.backend.as_ref().map_or(0..0, |name| name.span.clone());
    entry.table.report(
        Diagnostic::at(span.unwrap_or_else(|| place(entry)), title)
            .label("an earlier route takes these sessions")
            .also(place(first), "this route")
            .hint("routes are tried in order: put the more specific one first, or remove it")
            .warning(),
    );
}

fn cost(first: &Route, second: &Route) -> usize {
    let pairs = |one: usize, other: usize| one.saturating_mul(other);
    1 + pairs(first.sni.len(), second.sni.len())
        + pairs(first.alpn.len(), second.alpn.len())
        + pairs(first.user.len(), second.user.len())
        + pairs(first.database.len(), second.database.len())
}

/// Whether what fits all conditions of `second` but its names fits those of `first`.
fn covers_rest(first: &Route, second: &Route) -> bool {
    let all = |first: &[String], second: &[String]| {
        first.is_empty() || !second.is_empty() && second.iter().all(|word| first.contains(word))
    };
    all(&first.alpn, &second.alpn)
        && all(&first.user, &second.user)
        && all(&first.database, &second.database)
}

/// Whether every name that fits `second` fits `first`.
fn covers(first: &NamePattern, second: &NamePattern) -> bool {
    match second {
        NamePattern::Exact(name) => first.fits(name),
        NamePattern::Below(parent) => {
            first == second || { matches!(first, NamePattern::Below(_)) && first.fits(parent) }
        }
    }
}
