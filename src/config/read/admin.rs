//! The reader of `admin` in `[global]`: addresses, socket permissions, tokens.
//!
//! Not here: what a request must present (`control::report::admin::access`).

use ringlane_core::machine::Address;

use super::claims::BoundAddresses;
use super::secret::{self, Purpose};
use crate::config::model::{Admin, AdminSocketFile, Secret, Token, TokenRole};
use crate::config::text::report::quoted;
use crate::config::text::requirement::Requirement;
use crate::config::text::schema::Section;
use crate::config::text::table::{At, Table};
use crate::config::value::address;

/// Bytes in the shortest token: whoever reaches the address may try as many as it likes.
pub(crate) const TOKEN_MIN: usize = 16;

/// Bytes in the longest token.
pub(crate) const TOKEN_MAX: usize = 1024;

/// The most tokens.
pub(in crate::config) const TOKENS_MAX: usize = 64;

/// Mode bits that a socket file may have.
const MODE_MAX: u32 = 0o777;

pub(in crate::config) fn read(table: &Table<'_>, claims: &mut BoundAddresses) -> Admin {
    let mut admin = Admin::default();
    match table.value("socket") {
        Some(value) if value.is_table() => {
            if let Some(inner) = table.table("socket", Section::AdminSocket) {
                inner.require(&["path"]);
                read_path(&inner, "path", &mut admin, claims);
                admin.socket_file = read_file(&inner);
                inner.refuse_unknown_keys();
            }
        }
        Some(value) if value.as_str().is_none() => {
            table.wrong_type("socket", &value, "a path, or a table with path, mode, owner, group");
        }
        _ => read_path(table, "socket", &mut admin, claims),
    }
    if let Some(At { value, span }) = table.string("http") {
        match address::inet(value) {
            Some(inet) => {
                claims.claim(table, &Address::Inet(inet), span);
                admin.http = Some(inet);
            }
            None => {
                let why = "must be an IP address with a port";
                let hint = "for example: http = \"127.0.0.1:9000\"";
                table.report(table.unusable("http", span, why).hint(hint));
            }
        }
    }
    admin.tokens = read_tokens(table);
    admin.allow_hosts = read_hosts(table);
    table.refuse_unknown_keys();
    admin
}

/// Reads the path of the socket.
fn read_path(table: &Table<'_>, key: &'static str, admin: &mut Admin, claims: &mut BoundAddresses) {
    let Some(At { value, span }) = table.string(key) else { return };
    match address::socket_path(value) {
        Ok(path) => {
            claims.claim(table, &Address::Unix(path.clone()), span.clone());
            table.want(span, Requirement::SocketFolder(path.clone()));
            admin.socket = Some(path);
        }
        Err(why) => {
            let hint = format!("write only the path: {key} = \"/run/ringlane/admin.sock\"");
            table.report(table.unusable(key, span, &why).hint(hint));
        }
    }
}

fn read_file(table: &Table<'_>) -> AdminSocketFile {
    let mode = table.string("mode").and_then(|At { value, span }| {
        let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= MODE_MAX);
        if mode.is_none() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
            let why = "must be an octal number from \"0000\" to \"0777\"";
            table.report(table.unusable("mode", span, why).hint("for example: mode = \"0660\""));
            return None;
        }
        mode
    });
    let name = |key| table.name(key).map(|name| name.value.to_owned());
    AdminSocketFile { mode, owner: name("owner"), group: name("group") }
}

fn read_tokens(table: &Table<'_>) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let entries = table.tables("tokens", Section::Token);
    if entries.len() > TOKENS_MAX
        && let Some(value) = table.value("tokens")
    {
        let why = format!("at most {TOKENS_MAX} tokens are possible");
        table.report(table.unusable("tokens", value.span, &why));
    }
    for mut entry in entries {
        entry.require(&["name", "secret"]);
        let name = entry.name("name");
        if let Some(name) = &name {
            entry.call(format!("token {}", quoted(name.value)));
        }
        let roles = [("read", TokenRole::Read), ("write", TokenRole::Write)];
        let foreign = [("readonly", "read"), ("ro", "read"), ("rw", "write"), ("admin", "write")];
        let role = entry.choice("role", &roles, &foreign).unwrap_or_default();
        let secret = secret::read(&entry, "secret", Purpose::Token);
        if let Some(Secret::Text(text)) = &secret
            && let Err(why) = usable(text)
            && let Some(value) = entry.value("secret")
        {
            let hint = "make one: openssl rand -hex 32";
            entry.report(entry.unusable("secret", value.span, &why).hint(hint));
        }
        entry.refuse_unknown_keys();
        let (Some(name), Some(secret)) = (name, secret) else { continue };
        if tokens.iter().any(|token| token.name == name.value) {
            let why = "another token has this name";
            entry.report(entry.unusable("name", name.span, why));
            continue;
        }
        tokens.push(Token { name: name.value.to_owned(), secret, role });
    }
    tokens
}

/// Whether a text can be a token, and whether it is long enough.
///
/// # Errors
/// Why not, to follow the name of the key.
pub(crate) fn usable(token: &str) -> Result<(), String> {
    if !(TOKEN_MIN..=TOKEN_MAX).contains(&token.len()) {
        return Err(format!("must have {TOKEN_MIN} to {TOKEN_MAX} characters"));
    }
    // The characters of RFC 6750 (token68), which any client can send.
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.bytes().all(fits) {
        return Ok(());
    }
    Err("may have only letters, digits and the characters - . _ ~ + / =".to_owned())
}

fn read_hosts(table: &Table<'_>) -> Vec<String> {
    let mut hosts = Vec::new();
    for At { value, span } in table.strings("allow_hosts") {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_host = value.parse::<std::net::IpAddr>().is_ok()
            || (!value.is_empty() && value.bytes().all(fits));
        if is_host {
            hosts.push(value.trim_end_matches('.').to_ascii_lowercase());
        } else {
            let why = "must be host names or IP addresses, without scheme and port";
            let hint = "for example: allow_hosts = [\"lb1.example.org\"]";
            table.report(table.unusable("allow_hosts", span, why).hint(hint));
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_enough_and_can_be_sent() {
        let long = "x".repeat(TOKEN_MAX + 1);
        for (token, fits) in [
            ("0123456789abcdef", true),
            ("aGVsbG8gd29ybGQhIQ==", true),
            ("short", false),
            ("", false),
            ("with a blank in it", false),
            ("ünïcödé-is-no-token", false),
            (&long, false),
        ] {
            assert_eq!(usable(token).is_ok(), fits, "{token}");
        }
    }
}
