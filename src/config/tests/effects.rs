//! The table of effects in docs/reload.md is the one in the code.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ringlane_health::OnChange;

use super::super::text::effect::Effect;
use super::super::text::keys::OnReload;
use super::super::text::schema::Section;

const BEGIN: &str =
    "<!-- effects: written by UPDATE=1 cargo test -p ringlane --lib config::tests::effects -->\n";
const END: &str = "<!-- end of effects -->";

/// The effects that need no row.
fn is_plain(effect: Effect) -> bool {
    effect == Effect::New
}

fn table() -> String {
    let mut text = String::from("\n| Table | Effect | Keys |\n|---|---|---|\n");
    for section in Section::ALL {
        let mut rows: BTreeMap<(&str, &str), (Effect, Vec<String>)> = BTreeMap::new();
        for key in section.keys() {
            // A table whose keys are listed by themselves.
            let OnReload::Has(effect) = key.on_reload else { continue };
            let row = rows
                .entry((effect.word(), effect.phrase()))
                .or_insert_with(|| (effect, Vec::new()));
            row.1.push(format!("`{}`", key.name));
        }
        for (effect, keys) in rows.into_values().filter(|(effect, _)| !is_plain(*effect)) {
            let phrase = match effect {
                Effect::Refused(_) => format!("refused: {}", effect.phrase()),
                _ => format!("{} (`{}`)", effect.phrase(), effect.word()),
            };
            text += &format!("| {} | {phrase} | {} |\n", section.called(), keys.join(", "));
        }
    }
    text + "\n"
}

#[test]
fn the_documentation_has_the_effect_of_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reload.md");
    let mut page = fs::read_to_string(&path).unwrap();
    let begin = page.find(BEGIN).unwrap() + BEGIN.len();
    let end = page.find(END).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        page.replace_range(begin..end, &table());
        fs::write(&path, &page).unwrap();
        return;
    }
    assert_eq!(page[begin..end], table(), "UPDATE=1 rewrites it");
}

#[test]
fn every_effect_is_explained() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reload.md");
    let page = fs::read_to_string(&path).unwrap();
    let effects = [
        Effect::New,
        Effect::All,
        Effect::Listener,
        Effect::Check,
        Effect::Process,
        Effect::Forgets,
        Effect::Leaves(OnChange::Keep),
        Effect::Leaves(OnChange::Drain),
        Effect::Leaves(OnChange::Fence),
        Effect::Refused("why"),
    ];
    for effect in effects {
        let word = format!("`{}`", effect.word());
        let row = page.lines().find(|line| line.starts_with("| ") && line.contains(&word));
        let row = row.unwrap_or_else(|| panic!("{word} is not explained"));
        let is_general = matches!(effect, Effect::Leaves(_) | Effect::Refused(_));
        assert!(is_general || row.starts_with(&format!("| {} |", effect.phrase())), "{row}");
    }
}
