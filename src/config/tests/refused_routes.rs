//! Frontends that are refused for what they say of their clients' first words, and of their limits.

use super::{check, frontend};

#[test]
fn a_route_where_nobody_listens() {
    check(
        &frontend("route = [{ sni = \"a.lan\", backend = \"pg\" }]"),
        r#"
error: route of frontend "a" can't be used
 --> test.toml:5:9
  |
5 | route = [{ sni = "a.lan", backend = "pg" }]
  |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ nobody knows what this frontend's clients say before a server is chosen
  |
  = help: say what they speak: protocol = "tls" or "postgres"
"#,
    );
}

#[test]
fn a_route_by_what_can_t_be_seen_to_nowhere() {
    check(
        &frontend(
            "protocol = \"tls\"\nroute = [{ sni = \"a*.lan\", user = \"u\", backend = \"gp\" }, {}]",
        ),
        r#"
error: sni of route number 1 of frontend "a" can't be used
 --> test.toml:6:18
  |
6 | route = [{ sni = "a*.lan", user = "u", backend = "gp" }, {}]
  |                  ^^^^^^^^ it must be a name such as "db.example.org" or "*.example.org"

error: user of route number 1 of frontend "a" can't be used
 --> test.toml:6:35
  |
6 | route = [{ sni = "a*.lan", user = "u", backend = "gp" }, {}]
  |                                   ^^^ it is said inside of TLS, where nobody can look

error: route number 1 of frontend "a" wants backend "gp", which does not exist
 --> test.toml:6:50
  |
6 | route = [{ sni = "a*.lan", user = "u", backend = "gp" }, {}]
  |                                                  ^^^^ no [[backend]] has this name
  |
  = help: did you mean "pg"?

error: route number 2 of frontend "a" has no backend
 --> test.toml:6:58
  |
6 | route = [{ sni = "a*.lan", user = "u", backend = "gp" }, {}]
  |                                                          ^^ backend is needed here
  |
  = help: write it like this: backend = "postgres"
"#,
    );
}

#[test]
fn a_client_that_is_limited_in_nothing() {
    check(
        &frontend("per_client = { allow = [\"10.0.0.0/99\", 7] }"),
        r#"
error: per_client of frontend "a" can't be used
 --> test.toml:5:14
  |
5 | per_client = { allow = ["10.0.0.0/99", 7] }
  |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ it limits nothing
  |
  = help: give it max_connections, rate, or both

error: allow of per_client of frontend "a" can't be used
 --> test.toml:5:25
  |
5 | per_client = { allow = ["10.0.0.0/99", 7] }
  |                         ^^^^^^^^^^^^^ it must be a network such as 10.0.0.0/8, or an IP address

error: allow of per_client of frontend "a" must be an array of networks, as strings
 --> test.toml:5:40
  |
5 | per_client = { allow = ["10.0.0.0/99", 7] }
  |                                        ^ this is an integer
  |
  = help: write it like this: allow = ["10.0.0.0/8"]
"#,
    );
}

#[test]
fn what_clients_speak_in_words_of_others() {
    check(
        &frontend("protocol = \"ssl\"\nunmatched = \"deny\"\nno_sni = \"default\""),
        r#"
error: protocol of frontend "a" can't be used
 --> test.toml:5:12
  |
5 | protocol = "ssl"
  |            ^^^^^ it must be any, tls, postgres, mysql or redis
  |
  = help: this balancer says "tls"

error: unmatched of frontend "a" can't be used
 --> test.toml:6:13
  |
6 | unmatched = "deny"
  |             ^^^^^^ it must be backend or reject

error: no_sni of frontend "a" can't be used
 --> test.toml:7:10
  |
7 | no_sni = "default"
  |          ^^^^^^^^^ it must be backend or reject
  |
  = help: this balancer says "backend"
"#,
    );
}
