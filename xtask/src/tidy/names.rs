//! One word, one thing: names of ours never hold a word of another balancer's dictionary.
//!
//! Looks at the names of public items, of modules and of files, split on case and underscores.
//! Fields and locals are left to review.

use super::exceptions::Exceptions;
use super::source::Source;
use super::{Offence, offence};

/// Word, and what this balancer says instead.
const BANNED: &[(&str, &str)] = &[
    ("service", "frontend or backend"),
    ("cluster", "backend"),
    ("upstream", "backend or server"),
    ("endpoint", "server or listener"),
    ("peer", "client or server; `peer_addr` and `peer_address` are fine"),
    ("host", "server, machine or address"),
    ("target", "server"),
    ("node", "server or machine"),
    ("manager", "what it does"),
    ("handler", "what it does"),
    ("util", "what it holds"),
    ("utils", "what it holds"),
];

const ITEMS: &[&str] =
    &["struct", "enum", "union", "fn", "mod", "trait", "const", "static", "type", "macro_rules"];

/// Finds banned words in the names that this file defines and in its own.
pub(super) fn check(source: &Source<'_>, exceptions: &mut Exceptions) -> Vec<Offence> {
    let file = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    let named = (0..source.code.len()).flat_map(|line| items(source, line));
    let all = std::iter::once((0, file)).chain(named);
    all.filter_map(|(line, name)| {
        let (word, instead) = banned_word(name)?;
        if exceptions.allows_name(source.path, name) {
            return None;
        }
        let message = format!("`{name}`: not \"{word}\", this balancer says {instead}");
        Some(offence(source.path, line + 1, message))
    })
    .collect()
}

/// Names of the public items and modules defined on this line.
fn items<'s>(source: &'s Source<'_>, line: usize) -> Vec<(usize, &'s str)> {
    let words: Vec<&str> = source.words(line).map(|(_, word)| word).collect();
    let defined = words.windows(2).filter(|pair| ITEMS.contains(&pair[0]));
    let first = words.first().copied().unwrap_or_default();
    let is_public = |keyword| first == "pub" || keyword == "mod";
    defined.filter(|pair| is_public(pair[0])).map(|pair| (line, pair[1])).collect()
}

fn banned_word(name: &str) -> Option<(&'static str, &'static str)> {
    if ["peer_addr", "peer_address"].contains(&name) {
        return None;
    }
    let words = split(name);
    BANNED.iter().copied().find(|(banned, _)| {
        words.iter().any(|word| word == banned || word.strip_suffix('s') == Some(banned))
    })
}

/// The words of a name in lower case: `TcpListener` and `tcp_listener` are both tcp, listener.
fn split(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = '_';
    for c in name.chars() {
        let begins = c == '_' || (c.is_uppercase() && !before.is_uppercase());
        if begins && !words.last().is_some_and(String::is_empty) {
            words.push(String::new());
        }
        if c != '_'
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_on_case_and_underscores() {
        assert_eq!(split("TcpListener"), ["tcp", "listener"]);
        assert_eq!(split("MAX_NODES"), ["max", "nodes"]);
        assert_eq!(split("_x_TLS"), ["x", "tls"]);
    }

    #[test]
    fn foreign_words_are_found_in_public_names_only() {
        let text = "pub struct UpstreamPool;\nfn handler() {}\npub(crate) fn peer_addr() {}\n\
                    mod util;\npub const NODES: u8 = 1;\npub fn hostile() {}\n// pub fn target()\n";
        let found = check(&Source::new("l4/src/manager.rs", text), &mut Exceptions::none());
        let lines: Vec<usize> = found.iter().map(|offence| offence.line).collect();
        assert_eq!(lines, [1, 1, 4, 5], "{found:?}");
        assert!(found[1].message.contains("this balancer says backend or server"));
    }

    #[test]
    fn a_listed_name_passes() {
        let source = Source::new("a.rs", "pub struct Host;\n");
        assert!(check(&source, &mut Exceptions::one("a.rs", "Host", 0)).is_empty());
        assert_eq!(check(&source, &mut Exceptions::one("b.rs", "Host", 0)).len(), 1);
    }
}
