//! Variables of the environment in strings of the file: `${NAME}` and `${NAME:-default}`.
//!
//! A string is expanded after the file was parsed, so a value can't change the structure of the
//! file. As in a shell, the default is used if the variable is unset or empty; `$${` stands for
//! `${`, and any other `$` for itself. Not here: which values of a file are expanded (`tree`).

use std::ffi::OsString;

use super::report::quoted;

/// Longest string after expansion, in bytes.
const EXPANDED_MAX: usize = 1024 * 1024;

/// How the value of a variable is looked up.
pub(in crate::config) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A string after expansion.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct Expanded {
    pub(in crate::config) text: String,
    /// Whether it contained a variable.
    pub(in crate::config) has_variable: bool,
    /// Whether it was exactly one variable and nothing else.
    pub(in crate::config) is_variable: bool,
}

/// Why a string can't be expanded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct Unexpandable {
    pub(in crate::config) why: String,
    pub(in crate::config) hint: String,
}

/// Replaces the variables of a string by their values.
pub(in crate::config) fn expand(
    text: &str,
    environment: Environment<'_>,
) -> Result<Expanded, Unexpandable> {
    let mut expanded = Expanded {
        text: String::with_capacity(text.len()),
        has_variable: false,
        is_variable: false,
    };
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            expanded.text += &rest[..at - 1];
            expanded.text += "${";
            rest = &rest[at + 2..];
            continue;
        }
        expanded.text += &rest[..at];
        let Some((inner, behind)) = rest[at + 2..].split_once('}') else {
            return Err(malformed("${ has no closing }"));
        };
        expanded.is_variable = !expanded.has_variable && at == 0 && behind.is_empty();
        expanded.is_variable &= rest.len() == text.len();
        expanded.has_variable = true;
        expanded.text += &value(inner, environment)?;
        if expanded.text.len() > EXPANDED_MAX {
            let why = format!("longer than {EXPANDED_MAX} bytes with its variables replaced");
            return Err(Unexpandable { why, hint: "use a shorter value".to_owned() });
        }
        rest = behind;
    }
    expanded.text += rest;
    Ok(expanded)
}

/// The value of what stands between the braces.
fn value(inner: &str, environment: Environment<'_>) -> Result<String, Unexpandable> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    if !is_name(name) {
        return Err(malformed(&format!("{} is not the name of a variable", quoted(name))));
    }
    match (environment(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => value.into_string().map_err(|_| Unexpandable {
            why: format!("environment variable {name} is not UTF-8"),
            hint: "set it to UTF-8 text".to_owned(),
        }),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Unexpandable {
            why: format!("environment variable {name} is not set"),
            hint: format!(
                "set it where the command is started, or give a default: ${{{name}:-default}}"
            ),
        }),
    }
}

fn malformed(why: &str) -> Unexpandable {
    let hint = "write ${NAME} or ${NAME:-default}; $${ stands for ${ itself".to_owned();
    Unexpandable { why: why.to_owned(), hint }
}

/// Whether a word is a name that a shell accepts for a variable.
pub(in crate::config) fn is_name(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with(|c: char| c.is_ascii_digit())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn environment(name: &str) -> Option<OsString> {
        match name {
            "PORT" => Some("5432".into()),
            "EMPTY" => Some(OsString::new()),
            "NESTED" => Some("${PORT}".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_once() {
        for (text, expected, is_variable) in [
            ("plain", "plain", false),
            ("${PORT}", "5432", true),
            ("a:${PORT}", "a:5432", false),
            ("${PORT}${PORT}", "54325432", false),
            ("${HOST:-localhost}:${PORT}", "localhost:5432", false),
            ("${UNSET:-}", "", true),
            ("${EMPTY}", "", true),
            ("${EMPTY:-x}", "x", true),
            ("${UNSET:-a:-b}", "a:-b", true),
            ("${NESTED}", "${PORT}", true),
            ("$${PORT}", "${PORT}", false),
            ("$$${PORT}", "$${PORT}", false),
            ("cost: $5, 100$", "cost: $5, 100$", false),
            ("^ok$", "^ok$", false),
            ("$${a}${PORT}", "${a}5432", false),
        ] {
            let expanded = expand(text, &environment).unwrap();
            let found = (expanded.text.as_str(), expanded.is_variable);
            assert_eq!(found, (expected, is_variable), "{text}");
        }
    }

    #[test]
    fn what_can_not_be_replaced_has_a_reason() {
        for (text, why) in [
            ("${UNSET}", "environment variable UNSET is not set"),
            ("${PORT", "${ has no closing }"),
            ("${}", "\"\" is not the name of a variable"),
            ("${1}", "\"1\" is not the name of a variable"),
            ("${PORT-5}", "\"PORT-5\" is not the name of a variable"),
            ("${A B}", "\"A B\" is not the name of a variable"),
        ] {
            assert_eq!(expand(text, &environment).unwrap_err().why, why, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_a_brace_behind_a_dollar_stays_as_it_is(text in "[^{]*") {
            prop_assert_eq!(expand(&text, &environment).unwrap().text, text);
        }

        #[test]
        fn an_escaped_text_comes_back(text in "[a-zA-Z{}:$-]*") {
            let escaped = text.replace("${", "$${");
            prop_assert_eq!(expand(&escaped, &environment).unwrap().text, text);
        }

        #[test]
        fn no_text_panics(text in "[${}:A-C-]*") {
            let _ = expand(&text, &environment);
        }
    }
}
