//! Every page has one title, and links between pages lead somewhere.

use std::collections::HashMap;

use super::{Offence, offence};

/// Titles and links of all Markdown files.
pub(super) fn check(files: &[(String, String)]) -> Vec<Offence> {
    let pages: HashMap<&str, &str> =
        files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let mut offences = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".md")) {
        let titles: Vec<usize> =
            prose(text).filter(|(_, l)| l.starts_with("# ")).map(|(n, _)| n).collect();
        if titles.len() != 1 {
            let line = titles.get(1).copied().unwrap_or(1);
            let message = format!("{} titles (`# …`); a page has one", titles.len());
            offences.push(offence(path, line, message));
        }
        for (line, text) in prose(text) {
            let broken =
                links(text).filter_map(|link| Some((link, why_broken(path, link, &pages)?)));
            offences
                .extend(broken.map(|(link, why)| offence(path, line, format!("({link}): {why}"))));
        }
    }
    offences
}

/// Lines outside code fences, counted from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        (!fenced && !is_fence).then_some((number + 1, line))
    })
}

/// What the `[text](link)`s of a line lead to.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next())
}

/// Why a link between files leads nowhere; `None` for one that does, or that leaves the repository.
fn why_broken(from: &str, link: &str, pages: &HashMap<&str, &str>) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let to = if file.is_empty() { from.to_owned() } else { resolve(from, file) };
    let folder = format!("{to}/");
    let Some(page) = pages.get(to.as_str()) else {
        let is_folder = pages.keys().any(|path| path.starts_with(&folder));
        return (!is_folder).then(|| format!("there is no {to}"));
    };
    let found = anchor.is_empty()
        || !to.ends_with(".md")
        || prose(page).any(|(_, line)| line.starts_with('#') && slug(line) == anchor);
    (!found).then(|| format!("{to} has no heading #{anchor}"))
}

/// A link relative to the page that it stands on, as a path from the root.
fn resolve(from: &str, link: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The anchor that a heading gets on a forge.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pages: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = pages.iter().map(|&(a, b)| (a.to_owned(), b.to_owned())).collect();
        check(&files).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_page_has_one_title() {
        assert!(found(&[("a.md", "# A\n```\n# comment\n```\n")]).is_empty());
        assert_eq!(
            found(&[("a.md", "# A\n\n# B\n")]),
            ["a.md:3: 2 titles (`# …`); a page has one"]
        );
        assert_eq!(found(&[("a.md", "text\n")]).len(), 1);
    }

    #[test]
    fn links_must_lead_somewhere() {
        let good = "# A\n[b](docs/b.md#some-words) [dir](docs/) [out](https://example.org/x)\n";
        let b = "# B\n## Some words!\n[up](../a.md) [here](#b)\n";
        assert!(found(&[("a.md", good), ("docs/b.md", b)]).is_empty());
        let bad = "# A\n\n[b](docs/c.md) [b](docs/b.md#other)\n";
        let lines = found(&[("a.md", bad), ("docs/b.md", b)]);
        assert_eq!(lines[0], "a.md:3: (docs/c.md): there is no docs/c.md");
        assert_eq!(lines[1], "a.md:3: (docs/b.md#other): docs/b.md has no heading #other");
    }
}
