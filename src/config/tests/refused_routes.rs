//! Frontends that are refused for what they say of their clients' first words, and of their limits.

use super::{backend, check, frontend};

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

#[test]
fn bytes_that_pass_in_words_of_others() {
    check(
        &backend(
            "bandwidth = { per_session = \"10MB/s\", per_server = \"1Gbit\", per_backend = 7 }\n\
             mirror = { server = \"shadow:5432\", share = 2 }\n\
             send_proxy = { version = \"v1\", details = [\"authority\", \"ssl\"] }\n\
             server = [{ address = \"10.0.0.1:5432\" }]",
        ),
        r#"
error: per_session of bandwidth of backend "pg" can't be used
 --> test.toml:7:29
  |
7 | bandwidth = { per_session = "10MB/s", per_server = "1Gbit", per_backend = 7 }
  |                             ^^^^^^^^ it must be in bits per second, 8 for each byte: kbit, Mbit or Gbit

error: unknown key "per_server" in bandwidth of backend "pg"
 --> test.toml:7:39
  |
7 | bandwidth = { per_session = "10MB/s", per_server = "1Gbit", per_backend = 7 }
  |                                       ^^^^^^^^^^
  |
  = help: bandwidth in [[backend]] may have per_session or per_backend

error: per_backend of bandwidth of backend "pg" must be a string
 --> test.toml:7:75
  |
7 | bandwidth = { per_session = "10MB/s", per_server = "1Gbit", per_backend = 7 }
  |                                                                           ^ this is an integer
  |
  = help: write it like this: per_backend = "1Gbit"

error: server of mirror of backend "pg" can't be used
 --> test.toml:8:21
  |
8 | mirror = { server = "shadow:5432", share = 2 }
  |                     ^^^^^^^^^^^^^ a mirror needs an IP address and port, or unix: and a path

error: share of mirror of backend "pg" can't be used
 --> test.toml:8:44
  |
8 | mirror = { server = "shadow:5432", share = 2 }
  |                                            ^ it must be a number from 0.000001 to 1, the share of sessions

error: details of send_proxy of backend "pg" can't be used
 --> test.toml:9:42
  |
9 | send_proxy = { version = "v1", details = ["authority", "ssl"] }
  |                                          ^^^^^^^^^^^^^^^^^^^^ version 1 has room for addresses only
  |
  = help: say version = "v2"

error: details of send_proxy of backend "pg" can't be used
 --> test.toml:9:56
  |
9 | send_proxy = { version = "v1", details = ["authority", "ssl"] }
  |                                                        ^^^^^ it must be authority, alpn or unique_id
"#,
    );
}

#[test]
fn a_role_that_nobody_tells() {
    let text =
        frontend("role = \"primary\"").replace("[[backend]]", "[[backend]]\nmax_lag = \"1s\"");
    check(
        &text,
        r#"
error: role of frontend "a" can't be used
 --> test.toml:5:8
  |
5 | role = "primary"
  |        ^^^^^^^^^ nobody tells which server of backend "pg" that is
  |
  = help: give the backend a check that sees roles: check = { kind = "postgres" }, "mysql" or "redis"

error: max_lag of backend "pg" can't be used
 --> test.toml:7:11
  |
7 | max_lag = "1s"
  |           ^^^^ it belongs to a check that sees roles: postgres, mysql or redis
  |
  = help: remove the key
"#,
    );
}
