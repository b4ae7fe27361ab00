//! Files that are refused for their keys, references, repetitions and syntax, each with its report.

use super::{backend, check, frontend, global};

#[test]
fn nothing_at_all() {
    check(
        r#""#,
        r#"
error: there is no frontend, so there is nothing to serve
 --> test.toml:1:1
  |
1 |
  | ^
  |
  = help: add a [[frontend]] with name, bind and backend
"#,
    );
}

#[test]
fn no_frontend() {
    check(
        r#"[[backend]]
name = "pg"
server = [{ address = "10.0.0.1:5432" }]
"#,
        r#"
error: there is no frontend, so there is nothing to serve
 --> test.toml:4:1
  |
4 |
  | ^
  |
  = help: add a [[frontend]] with name, bind and backend
"#,
    );
}

#[test]
fn the_word_of_others_for_a_table() {
    check(
        r#"[[frontend]]
name = "a"
bind = "127.0.0.1:80"
backend = "pg"
[[upstream]]
name = "pg"
server = [{ address = "10.0.0.1:5432" }]
"#,
        r#"
error: unknown key "upstream"
 --> test.toml:5:3
  |
5 | [[upstream]]
  |   ^^^^^^^^
  |
  = help: this balancer says "backend": [[backend]]
"#,
    );
}

#[test]
fn the_word_of_others_for_a_key() {
    check(
        &frontend(r#"maxconn = 10000"#),
        r#"
error: unknown key "maxconn" in frontend "a"
 --> test.toml:5:1
  |
5 | maxconn = 10000
  | ^^^^^^^
  |
  = help: this balancer says "max_connections": max_connections = 10000
"#,
    );
}

#[test]
fn the_word_of_others_instead_of_a_needed_key() {
    check(
        &backend(r#"server = [{ host = "10.0.0.1:5432" }]"#),
        r#"
error: unknown key "host" in server number 1 of backend "pg"
 --> test.toml:7:13
  |
7 | server = [{ host = "10.0.0.1:5432" }]
  |             ^^^^
  |
  = help: this balancer says "address": address = "10.0.0.11:5432"
"#,
    );
}

#[test]
fn a_slip_in_a_key() {
    check(
        &frontend(r#"congestoin = "auto""#),
        r#"
error: unknown key "congestoin" in frontend "a"
 --> test.toml:5:1
  |
5 | congestoin = "auto"
  | ^^^^^^^^^^
  |
  = help: did you mean "congestion"?
"#,
    );
}

#[test]
fn a_key_of_another_table() {
    check(
        &frontend(r#"balance = "source""#),
        r#"
error: unknown key "balance" in frontend "a"
 --> test.toml:5:1
  |
5 | balance = "source"
  | ^^^^^^^
  |
  = help: balance is a key of [[backend]]
"#,
    );
}

#[test]
fn a_key_that_later_versions_have() {
    check(
        &backend(
            r#"server = [{ address = "10.0.0.1:5432" }]
tls = { verify = true }"#,
        ),
        r#"
error: unknown key "tls" in backend "pg"
 --> test.toml:8:1
  |
8 | tls = { verify = true }
  | ^^^
  |
  = help: this version has no tls; remove the key
"#,
    );
}

#[test]
fn a_key_that_nobody_has() {
    check(
        &global(r#"admin = { xyzzy = 1 }"#),
        r#"
error: unknown key "xyzzy" in admin in [global]
 --> test.toml:2:11
  |
2 | admin = { xyzzy = 1 }
  |           ^^^^^
  |
  = help: admin in [global] may have socket or http
"#,
    );
}

#[test]
fn needed_keys_that_are_absent() {
    check(
        r#"[[frontend]]
[[backend]]
name = "pg"
server = [{ address = "10.0.0.1:5432" }]
"#,
        r#"
error: frontend number 1 has no name
 --> test.toml:1:1
  |
1 | [[frontend]]
  | ^^^^^^^^^^^^ name is needed here
  |
  = help: write it like this: name = "pg-write"

error: frontend number 1 has no bind
 --> test.toml:1:1
  |
1 | [[frontend]]
  | ^^^^^^^^^^^^ bind is needed here
  |
  = help: write it like this: bind = ["0.0.0.0:5432", "[::]:5432"]

error: frontend number 1 has no backend
 --> test.toml:1:1
  |
1 | [[frontend]]
  | ^^^^^^^^^^^^ backend is needed here
  |
  = help: write it like this: backend = "postgres"
"#,
    );
}

#[test]
fn a_backend_without_servers() {
    check(
        &backend(r#"server = []"#),
        r#"
error: backend "pg" has no server
 --> test.toml:7:10
  |
7 | server = []
  |          ^^ server is needed here
  |
  = help: write it like this: server = [{ name = "pg1", address = "10.0.0.11:5432" }]
"#,
    );
}

#[test]
fn a_server_without_address() {
    check(
        &backend(r#"server = [{ name = "pg1" }]"#),
        r#"
error: server "pg1" of backend "pg" has no address
 --> test.toml:7:11
  |
7 | server = [{ name = "pg1" }]
  |           ^^^^^^^^^^^^^^^^ address is needed here
  |
  = help: write it like this: address = "10.0.0.11:5432"
"#,
    );
}

#[test]
fn a_backend_that_does_not_exist() {
    check(
        r#"[[frontend]]
name = "a"
bind = "127.0.0.1:80"
backend = "gp"

[[backend]]
name = "pg"
server = [{ address = "10.0.0.1:5432" }]
"#,
        r#"
error: frontend "a" wants backend "gp", which does not exist
 --> test.toml:4:11
  |
4 | backend = "gp"
  |           ^^^^ no [[backend]] has this name
  |
  = help: did you mean "pg"?
"#,
    );
}

#[test]
fn a_backend_unlike_any_there_is() {
    check(
        r#"[[frontend]]
name = "a"
bind = "127.0.0.1:80"
backend = "redis"

[[backend]]
name = "pg"
server = [{ address = "10.0.0.1:5432" }]
"#,
        r#"
error: frontend "a" wants backend "redis", which does not exist
 --> test.toml:4:11
  |
4 | backend = "redis"
  |           ^^^^^^^ no [[backend]] has this name
  |
  = help: there is "pg"
"#,
    );
}

#[test]
fn a_backend_where_there_is_none() {
    check(
        r#"[[frontend]]
name = "a"
bind = "127.0.0.1:80"
backend = "pg"
"#,
        r#"
error: frontend "a" wants backend "pg", which does not exist
 --> test.toml:4:11
  |
4 | backend = "pg"
  |           ^^^^ no [[backend]] has this name
  |
  = help: add a [[backend]] with name and server
"#,
    );
}

#[test]
fn two_frontends_with_one_name() {
    check(
        r#"[[frontend]]
name = "a"
bind = "127.0.0.1:80"
backend = "pg"

[[backend]]
name = "pg"
server = [{ address = "10.0.0.1:5432" }]
[[frontend]]
name = "a"
bind = "127.0.0.1:81"
backend = "pg"
"#,
        r#"
error: two frontends are called "a"
  --> test.toml:10:8
   |
 2 | name = "a"
   |        --- first here
...
10 | name = "a"
   |        ^^^ again here
   |
   = help: give each a name of its own
"#,
    );
}

#[test]
fn two_backends_with_one_name() {
    check(
        r#"[[frontend]]
name = "a"
bind = "127.0.0.1:80"
backend = "pg"

[[backend]]
name = "pg"
server = [{ address = "10.0.0.1:5432" }]
[[backend]]
name = "pg"
server = [{ address = "10.0.0.1:5432" }]
"#,
        r#"
error: two backends are called "pg"
  --> test.toml:10:8
   |
 7 | name = "pg"
   |        ---- first here
...
10 | name = "pg"
   |        ^^^^ again here
   |
   = help: give each a name of its own
"#,
    );
}

#[test]
fn two_servers_with_one_name() {
    check(
        &backend(
            r#"server = [
  { name = "s", address = "10.0.0.1:1" },
  { name = "s", address = "10.0.0.2:1" },
]"#,
        ),
        r#"
error: two servers of backend "pg" are called "s"
 --> test.toml:9:12
  |
8 |   { name = "s", address = "10.0.0.1:1" },
  |            --- first here
9 |   { name = "s", address = "10.0.0.2:1" },
  |            ^^^ again here
  |
  = help: give each a name of its own
"#,
    );
}

#[test]
fn two_unnamed_servers_with_one_address() {
    check(
        &backend(r#"server = [{ address = "10.0.0.1:1" }, { address = "10.0.0.1:1" }]"#),
        r#"
error: two servers of backend "pg" are called "10.0.0.1:1"
 --> test.toml:7:51
  |
7 | server = [{ address = "10.0.0.1:1" }, { address = "10.0.0.1:1" }]
  |                       ------------ first here     ^^^^^^^^^^^^ again here
  |
  = help: give each a name of its own
"#,
    );
}

#[test]
fn two_listeners_on_one_address() {
    check(
        r#"[[frontend]]
name = "a"
bind = "127.0.0.1:80"
backend = "pg"

[[backend]]
name = "pg"
server = [{ address = "10.0.0.1:5432" }]
[[frontend]]
name = "b"
bind = "127.0.0.1:80"
backend = "pg"
"#,
        r#"
error: 127.0.0.1:80 is bound twice
  --> test.toml:11:8
   |
 3 | bind = "127.0.0.1:80"
   |        -------------- first by frontend "a"
...
11 | bind = "127.0.0.1:80"
   |        ^^^^^^^^^^^^^^ again by frontend "b"
   |
   = help: each address belongs to one listener
"#,
    );
}

#[test]
fn an_address_of_two_forms_is_bound_twice() {
    let text = format!("{}[[frontend]]\nname = \"b\"\nbackend = \"pg\"\n", super::BACKEND);
    check(
        &format!("{text}bind = [\"127.0.0.1:80\", \"[::ffff:127.0.0.1]:80\"]"),
        r#"
error: 127.0.0.1:80 is bound twice
 --> test.toml:7:25
  |
7 | bind = ["127.0.0.1:80", "[::ffff:127.0.0.1]:80"]
  |         --------------  ^^^^^^^^^^^^^^^^^^^^^^^ again by frontend "b"
  |         |
  |         first by frontend "b"
  |
  = help: each address belongs to one listener
"#,
    );
}

#[test]
fn the_admin_interface_on_the_address_of_a_frontend() {
    check(
        &global(r#"admin = { http = "127.0.0.1:80" }"#),
        r#"
error: 127.0.0.1:80 is bound twice
 --> test.toml:5:8
  |
2 | admin = { http = "127.0.0.1:80" }
  |                  -------------- first by admin in [global]
...
5 | bind = "127.0.0.1:80"
  |        ^^^^^^^^^^^^^^ again by frontend "a"
  |
  = help: each address belongs to one listener
"#,
    );
}

#[test]
fn text_without_quotes() {
    check(
        r#"[[frontend]]
name = "a"
bind = 127.0.0.1:80
backend = "pg"

[[backend]]
name = "pg"
server = [{ address = "10.0.0.1:5432" }]
"#,
        r#"
error: this is not TOML: invalid float
 --> test.toml:3:13
  |
3 | bind = 127.0.0.1:80
  |             ^^^^^^^
  |
  = help: text stands in double quotes: bind = "0.0.0.0:5432"
"#,
    );
}

#[test]
fn a_value_that_is_missing() {
    check(
        &frontend(r#"mode ="#),
        r#"
error: the value is missing
 --> test.toml:5:7
  |
5 | mode =
  |       ^ expected a value after =
  |
  = help: text stands in double quotes, numbers, true and false without
"#,
    );
}

#[test]
fn a_string_without_end() {
    check(
        &frontend(r#"mode = "tcp"#),
        r#"
error: this text has no closing quote
 --> test.toml:5:12
  |
5 | mode = "tcp
  |            ^ expected " here
"#,
    );
}

#[test]
fn a_bracket_that_is_missing() {
    check(
        r#"[[frontend]
name = "a"
bind = "127.0.0.1:80"
backend = "pg"

[[backend]]
name = "pg"
server = [{ address = "10.0.0.1:5432" }]
"#,
        r#"
error: this is not TOML: unclosed array table, expected `]`
 --> test.toml:1:12
  |
1 | [[frontend]
  |            ^
"#,
    );
}

#[test]
fn a_key_twice() {
    check(
        &frontend(
            r#"mode = "tcp"
mode = "tcp""#,
        ),
        r#"
error: "mode" is there twice
 --> test.toml:6:1
  |
5 | mode = "tcp"
  | ---- first here
6 | mode = "tcp"
  | ^^^^ again here
  |
  = help: keep one of the two; a further frontend or backend begins with [[frontend]] or [[backend]]
"#,
    );
}

#[test]
fn a_table_twice() {
    check(
        &global(
            r#"pin = true
[global]
"#,
        ),
        r#"
error: "global" is there twice
 --> test.toml:3:2
  |
1 | [global]
  | -------- first here
2 | pin = true
3 | [global]
  |  ^^^^^^ again here
  |
  = help: keep one of the two; a further frontend or backend begins with [[frontend]] or [[backend]]
"#,
    );
}

#[test]
fn syntax_errors_hide_what_may_follow_from_them() {
    check(
        r#"[[frontend]]
name = "a
backend = "pg"
maxconn = 1
"#,
        r#"
error: this text has no closing quote
 --> test.toml:2:10
  |
2 | name = "a
  |          ^ expected " here

error: unknown key "maxconn" in frontend "a"
 --> test.toml:4:1
  |
4 | maxconn = 1
  | ^^^^^^^
  |
  = help: this balancer says "max_connections": max_connections = 10000
"#,
    );
}

#[test]
fn everything_at_once() {
    check(
        r#"[global]
shards = 0

[[frontend]]
name = "a"
bind = ":80"
backend = "pq"
timeout = { idle = "1", conect = "2s" }

[[backend]]
name = "pg"
server = [{ addr = "10.0.0.1:1", weight = "2" }]
"#,
        r#"
error: shards of [global] can't be used
 --> test.toml:2:10
  |
2 | shards = 0
  |          ^ it must be "auto" or a whole number from 1 to 256

error: bind of frontend "a" can't be used
 --> test.toml:6:8
  |
6 | bind = ":80"
  |        ^^^^^ the address is missing before the port
  |
  = help: for all IPv4 and all IPv6 addresses write both: "0.0.0.0:80", "[::]:80"

error: frontend "a" wants backend "pq", which does not exist
 --> test.toml:7:11
  |
7 | backend = "pq"
  |           ^^^^ no [[backend]] has this name
  |
  = help: did you mean "pg"?

error: idle of timeout of frontend "a" can't be used
 --> test.toml:8:20
  |
8 | timeout = { idle = "1", conect = "2s" }
  |                    ^^^ the unit is missing: 1s, 1ms or 1m?

error: unknown key "conect" in timeout of frontend "a"
 --> test.toml:8:25
  |
8 | timeout = { idle = "1", conect = "2s" }
  |                         ^^^^^^
  |
  = help: did you mean "connect"?

error: unknown key "addr" in server number 1 of backend "pg"
  --> test.toml:12:13
   |
12 | server = [{ addr = "10.0.0.1:1", weight = "2" }]
   |             ^^^^
   |
   = help: this balancer says "address": address = "10.0.0.11:5432"

error: weight of server number 1 of backend "pg" must be a whole number from 0 to 1000
  --> test.toml:12:43
   |
12 | server = [{ addr = "10.0.0.1:1", weight = "2" }]
   |                                           ^^^ this is a string
   |
   = help: write it like this: weight = 10
"#,
    );
}
