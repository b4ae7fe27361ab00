//! Values that are refused, each with its whole report.

use super::{backend, check, frontend, global};

#[test]
fn a_string_where_a_number_belongs() {
    check(
        &frontend(r#"max_connections = "10000""#),
        r#"
error: max_connections of frontend "a" must be a whole number from 1 to 4294967295
 --> test.toml:5:19
  |
5 | max_connections = "10000"
  |                   ^^^^^^^ this is a string
  |
  = help: write it like this: max_connections = 10000
"#,
    );
}

#[test]
fn a_number_beyond_its_range() {
    check(
        &backend(r#"server = [{ address = "10.0.0.1:5432", weight = 1001 }]"#),
        r#"
error: weight of server "10.0.0.1:5432" of backend "pg" can't be used
 --> test.toml:7:49
  |
7 | server = [{ address = "10.0.0.1:5432", weight = 1001 }]
  |                                                 ^^^^ it must be from 0 to 1000
"#,
    );
}

#[test]
fn a_number_beyond_64_bits() {
    check(
        &frontend(r#"max_connections = 99999999999999999999"#),
        r#"
error: max_connections of frontend "a" can't be used
 --> test.toml:5:19
  |
5 | max_connections = 99999999999999999999
  |                   ^^^^^^^^^^^^^^^^^^^^ it must be from 1 to 4294967295
"#,
    );
}

#[test]
fn a_negative_number() {
    check(
        &global(r#"max_connections = -1"#),
        r#"
error: max_connections of [global] can't be used
 --> test.toml:2:19
  |
2 | max_connections = -1
  |                   ^^ it must be from 1 to 4294967295
"#,
    );
}

#[test]
fn a_string_where_a_boolean_belongs() {
    check(
        &global(r#"pin = "yes""#),
        r#"
error: pin of [global] must be true or false
 --> test.toml:2:7
  |
2 | pin = "yes"
  |       ^^^^^ this is a string
  |
  = help: write it like this: pin = true
"#,
    );
}

#[test]
fn a_number_where_a_string_belongs() {
    check(
        &global(r#"user = 1000"#),
        r#"
error: user of [global] must be a string
 --> test.toml:2:8
  |
2 | user = 1000
  |        ^^^^ this is an integer
  |
  = help: write it like this: user = "ringlane"
"#,
    );
}

#[test]
fn a_table_where_an_array_belongs() {
    check(
        r#"[frontend]
name = "a""#,
        r#"
error: frontend must be an array of tables
 --> test.toml:1:1
  |
1 | [frontend]
  | ^^^^^^^^^^ this is a table
  |
  = help: write it like this: [[frontend]]
"#,
    );
}

#[test]
fn a_value_where_a_table_belongs() {
    check(
        &frontend(r#"timeout = "5s""#),
        r#"
error: timeout of frontend "a" must be a table
 --> test.toml:5:11
  |
5 | timeout = "5s"
  |           ^^^^ this is a string
  |
  = help: write it like this: timeout = { connect = "2s", idle = "1h" }
"#,
    );
}

#[test]
fn a_string_where_a_server_belongs() {
    check(
        &backend(r#"server = ["10.0.0.1:5432"]"#),
        r#"
error: server of backend "pg" must be an array of tables
 --> test.toml:7:11
  |
7 | server = ["10.0.0.1:5432"]
  |           ^^^^^^^^^^^^^^^ this is a string
  |
  = help: write it like this: server = [{ name = "pg1", address = "10.0.0.11:5432" }]
"#,
    );
}

#[test]
fn a_duration_without_unit() {
    check(
        &frontend(r#"timeout = { connect = 5 }"#),
        r#"
error: connect of timeout of frontend "a" must be a duration with its unit, in quotes
 --> test.toml:5:23
  |
5 | timeout = { connect = 5 }
  |                       ^ this is an integer
  |
  = help: write it like this: connect = "2s"
"#,
    );
}

#[test]
fn a_duration_of_nothing() {
    check(
        &frontend(r#"timeout = { idle = "0s" }"#),
        r#"
error: idle of timeout of frontend "a" can't be used
 --> test.toml:5:20
  |
5 | timeout = { idle = "0s" }
  |                    ^^^^ it must be more than nothing
"#,
    );
}

#[test]
fn a_duration_with_a_foreign_unit() {
    check(
        &global(r#"drain_timeout = "5min""#),
        r#"
error: drain_timeout of [global] can't be used
 --> test.toml:2:17
  |
2 | drain_timeout = "5min"
  |                 ^^^^^^ its unit is written m
"#,
    );
}

#[test]
fn too_many_shards() {
    check(
        &global(r#"shards = 257"#),
        r#"
error: shards of [global] can't be used
 --> test.toml:2:10
  |
2 | shards = 257
  |          ^^^ it must be "auto" or a whole number from 1 to 256
"#,
    );
}

#[test]
fn a_word_for_shards() {
    check(
        &global(r#"shards = "all""#),
        r#"
error: shards of [global] must be "auto" or a whole number from 1 to 256
 --> test.toml:2:10
  |
2 | shards = "all"
  |          ^^^^^ this is a string
  |
  = help: write it like this: shards = "auto"
"#,
    );
}

#[test]
fn a_mode_that_this_version_does_not_carry() {
    check(
        &frontend(r#"mode = "udp""#),
        r#"
error: mode of frontend "a" can't be used
 --> test.toml:5:8
  |
5 | mode = "udp"
  |        ^^^^^ this version carries tcp
  |
  = help: remove this frontend
"#,
    );
}

#[test]
fn mode_http() {
    check(
        &frontend(r#"mode = "http""#),
        r#"
error: mode of frontend "a" can't be used
 --> test.toml:5:8
  |
5 | mode = "http"
  |        ^^^^^^ this version carries tcp
  |
  = help: mode = "tcp" carries HTTP too, without looking into it
"#,
    );
}

#[test]
fn a_balance_in_the_words_of_others() {
    check(
        &backend(
            r#"balance = "ip_hash"
server = [{ address = "10.0.0.1:5432" }]"#,
        ),
        r#"
error: balance of backend "pg" can't be used
 --> test.toml:7:11
  |
7 | balance = "ip_hash"
  |           ^^^^^^^^^ it must be round_robin, least_conn, random_two, source, maglev, ring_hash, least_bandwidth or first
  |
  = help: this balancer says "source"
"#,
    );
}

#[test]
fn a_balance_with_a_slip() {
    check(
        &backend(
            r#"balance = "least_con"
server = [{ address = "10.0.0.1:5432" }]"#,
        ),
        r#"
error: balance of backend "pg" can't be used
 --> test.toml:7:11
  |
7 | balance = "least_con"
  |           ^^^^^^^^^^^ it must be round_robin, least_conn, random_two, source, maglev, ring_hash, least_bandwidth or first
  |
  = help: did you mean "least_conn"?
"#,
    );
}

#[test]
fn a_path_that_is_none() {
    check(
        &frontend(r#"path = "fast""#),
        r#"
error: path of frontend "a" can't be used
 --> test.toml:5:8
  |
5 | path = "fast"
  |        ^^^^^^ it must be auto, copy or splice
"#,
    );
}

#[test]
fn a_congestion_control_that_cannot_be_one() {
    check(
        &frontend(r#"congestion = "no such thing""#),
        r#"
error: congestion of frontend "a" can't be used
 --> test.toml:5:14
  |
5 | congestion = "no such thing"
  |              ^^^^^^^^^^^^^^^ it must be auto, host or a name that the kernel knows, such as cubic
  |
  = help: /proc/sys/net/ipv4/tcp_available_congestion_control lists the names
"#,
    );
}

#[test]
fn a_name_that_is_empty() {
    check(
        &backend(r#"server = [{ name = " ", address = "10.0.0.1:5432" }]"#),
        r#"
error: name of server number 1 of backend "pg" can't be used
 --> test.toml:7:20
  |
7 | server = [{ name = " ", address = "10.0.0.1:5432" }]
  |                    ^^^ it is empty
"#,
    );
}

#[test]
fn a_name_with_control_characters() {
    check(
        &backend(r#"server = [{ name = "a\u001b[31m", address = "10.0.0.1:5432" }]"#),
        r#"
error: name of server number 1 of backend "pg" can't be used
 --> test.toml:7:20
  |
7 | server = [{ name = "a\u001b[31m", address = "10.0.0.1:5432" }]
  |                    ^^^^^^^^^^^^^ it contains control characters
"#,
    );
}

#[test]
fn an_address_without_ip() {
    check(
        r#"[[frontend]]
name = "a"
bind = ":5432"
backend = "pg"

[[backend]]
name = "pg"
server = [{ address = "10.0.0.1:5432" }]
"#,
        r#"
error: bind of frontend "a" can't be used
 --> test.toml:3:8
  |
3 | bind = ":5432"
  |        ^^^^^^^ the address is missing before the port
  |
  = help: for all IPv4 and all IPv6 addresses write both: "0.0.0.0:5432", "[::]:5432"
"#,
    );
}

#[test]
fn a_listener_by_name() {
    check(
        r#"[[frontend]]
name = "a"
bind = "db.example:80"
backend = "pg"

[[backend]]
name = "pg"
server = [{ address = "10.0.0.1:5432" }]
"#,
        r#"
error: bind of frontend "a" can't be used
 --> test.toml:3:8
  |
3 | bind = "db.example:80"
  |        ^^^^^^^^^^^^^^^ a listener needs an IP address, not a name
  |
  = help: write the address of this machine that clients connect to
"#,
    );
}

#[test]
fn a_listener_of_the_wrong_type() {
    check(
        r#"[[frontend]]
name = "a"
bind = ["127.0.0.1:80", 5432]
backend = "pg"

[[backend]]
name = "pg"
server = [{ address = "10.0.0.1:5432" }]
"#,
        r#"
error: bind of frontend "a" must be a string or an array of strings
 --> test.toml:3:25
  |
3 | bind = ["127.0.0.1:80", 5432]
  |                         ^^^^ this is an integer
  |
  = help: write it like this: bind = ["0.0.0.0:5432", "[::]:5432"]
"#,
    );
}

#[test]
fn a_name_with_srv_records_and_a_port() {
    check(
        &backend(r#"server = [{ name = "pg1", address = "srv:_pg._tcp.example.org:5432" }]"#),
        r#"
error: address of server "pg1" of backend "pg" can't be used
 --> test.toml:7:37
  |
7 | server = [{ name = "pg1", address = "srv:_pg._tcp.example.org:5432" }]
  |                                     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ after srv: stands a name of DNS
  |
  = help: write "srv:_postgresql._tcp.example.org"
"#,
    );
}

#[test]
fn slots_of_a_fixed_address() {
    check(
        &backend(r#"server = [{ name = "pg1", address = "10.0.0.1:5432", slots = 2 }]"#),
        r#"
error: slots of server "pg1" of backend "pg" can't be used
 --> test.toml:7:62
  |
7 | server = [{ name = "pg1", address = "10.0.0.1:5432", slots = 2 }]
  |                                                              ^ it belongs to an address by name
  |
  = help: remove the key
"#,
    );
}

#[test]
fn a_server_called_like_a_slot() {
    check(
        &backend(
            r#"server = [
  { name = "pg", address = "db.example:5432", slots = 2 },
  { name = "pg-2", address = "10.0.0.1:5432" },
]"#,
        ),
        r#"
error: two servers of backend "pg" are called "pg-2"
 --> test.toml:9:12
  |
8 |   { name = "pg", address = "db.example:5432", slots = 2 },
  |            ---- first here
9 |   { name = "pg-2", address = "10.0.0.1:5432" },
  |            ^^^^^^ again here
  |
  = help: give each a name of its own
"#,
    );
}

#[test]
fn a_dns_server_by_name() {
    check(
        &global(r#"resolver = { servers = ["10.0.0.53", "dns.example"] }"#),
        r#"
error: servers of resolver in [global] can't be used
 --> test.toml:2:38
  |
2 | resolver = { servers = ["10.0.0.53", "dns.example"] }
  |                                      ^^^^^^^^^^^^^ it must be an IP address, with or without a port
"#,
    );
}

#[test]
fn more_slots_than_can_be() {
    let server = |n| format!("{{ name = \"s{n}\", address = \"db.example:5432\", slots = 1024 }}");
    let servers: Vec<String> = (0..65).map(server).collect();
    let report = super::parse(&backend(&format!("server = [{}]", servers.join(", "))));
    let report = report.expect_err("too many").to_string();
    assert_eq!(report.matches("error: ").count(), 1, "{report}");
    assert!(report.contains("server \"s64\" of backend \"pg\" has more slots than are left"));
}

#[test]
fn a_server_on_port_0() {
    check(
        &backend(r#"server = [{ address = "10.0.0.1:0" }]"#),
        r#"
error: address of server "10.0.0.1:0" of backend "pg" can't be used
 --> test.toml:7:23
  |
7 | server = [{ address = "10.0.0.1:0" }]
  |                       ^^^^^^^^^^^^ its port must not be 0
"#,
    );
}

#[test]
fn a_relative_socket_path() {
    check(
        &backend(r#"server = [{ address = "unix:pg.sock" }]"#),
        r#"
error: address of server "unix:pg.sock" of backend "pg" can't be used
 --> test.toml:7:23
  |
7 | server = [{ address = "unix:pg.sock" }]
  |                       ^^^^^^^^^^^^^^ it must be an absolute path, beginning with /
"#,
    );
}

#[test]
fn an_admin_socket_with_prefix() {
    check(
        &global(r#"admin = { socket = "unix:/run/admin.sock" }"#),
        r#"
error: socket of admin in [global] can't be used
 --> test.toml:2:20
  |
2 | admin = { socket = "unix:/run/admin.sock" }
  |                    ^^^^^^^^^^^^^^^^^^^^^^ it must be an absolute path, beginning with /
  |
  = help: write the path alone: socket = "/run/ringlane/admin.sock"
"#,
    );
}

#[test]
fn an_admin_address_by_name() {
    check(
        &global(r#"admin = { http = "localhost:9000" }"#),
        r#"
error: http of admin in [global] can't be used
 --> test.toml:2:18
  |
2 | admin = { http = "localhost:9000" }
  |                  ^^^^^^^^^^^^^^^^ it must be an IP address with a port
  |
  = help: write it like this: http = "127.0.0.1:9000"
"#,
    );
}

#[test]
fn an_access_log_without_socket() {
    check(
        &global(r#"access_log = { format = "json", to = "syslog" }"#),
        r#"
error: to of access_log in [global] can't be used
 --> test.toml:2:38
  |
2 | access_log = { format = "json", to = "syslog" }
  |                                      ^^^^^^^^ it must be stderr, file:/path or syslog:/path
  |
  = help: name the socket of the syslog daemon: "syslog:/dev/log"
"#,
    );
}

#[test]
fn a_log_of_a_level_of_syslog() {
    check(
        &global(r#"log = { level = "warn" }"#),
        r#"
error: level of log in [global] can't be used
 --> test.toml:2:17
  |
2 | log = { level = "warn" }
  |                 ^^^^^^ it must be error, warning, info or debug
  |
  = help: this balancer says "warning"
"#,
    );
}

#[test]
fn an_access_log_with_a_field_that_is_not_there() {
    check(
        &global(r#"access_log = { fields = ["time", "databse", "time"] }"#),
        r#"
error: fields of access_log in [global] can't be used
 --> test.toml:2:34
  |
2 | access_log = { fields = ["time", "databse", "time"] }
  |                                  ^^^^^^^^^ there is no field "databse"
  |
  = help: did you mean "database"?

error: fields of access_log in [global] can't be used
 --> test.toml:2:45
  |
2 | access_log = { fields = ["time", "databse", "time"] }
  |                                             ^^^^^^ "time" is there twice
"#,
    );
}

#[test]
fn an_access_log_with_a_bare_path() {
    check(
        &global(r#"access_log = { to = "/var/log/x" }"#),
        r#"
error: to of access_log in [global] can't be used
 --> test.toml:2:21
  |
2 | access_log = { to = "/var/log/x" }
  |                     ^^^^^^^^^^^^ it must be stderr, file:/path or syslog:/path
  |
  = help: say what is there: "file:/path" or "syslog:/path"
"#,
    );
}

#[test]
fn an_access_log_format_that_is_none() {
    check(
        &global(r#"access_log = { format = "xml" }"#),
        r#"
error: format of access_log in [global] can't be used
 --> test.toml:2:25
  |
2 | access_log = { format = "xml" }
  |                         ^^^^^ it must be json or text
"#,
    );
}

#[test]
fn a_load_bound_below_the_average() {
    check(
        &backend(
            "server = [{ address = \"10.0.0.1:5432\" }]\nbalance = \"maglev\"\nbounded_load = 1",
        ),
        r#"
error: bounded_load of backend "pg" can't be used
 --> test.toml:9:16
  |
9 | bounded_load = 1
  |                ^ it must be from 1.05 to 10
"#,
    );
}

#[test]
fn a_load_bound_that_is_no_number() {
    check(
        &backend(
            "server = [{ address = \"10.0.0.1:5432\" }]\nbalance = \"maglev\"\nbounded_load = \"25%\"",
        ),
        r#"
error: bounded_load of backend "pg" must be a number from 1.05 to 10
 --> test.toml:9:16
  |
9 | bounded_load = "25%"
  |                ^^^^^ this is a string
  |
  = help: write it like this: bounded_load = 1.25
"#,
    );
}

#[test]
fn a_key_for_hashing_where_nothing_is_hashed() {
    check(
        &backend("server = [{ address = \"10.0.0.1:5432\" }]\nhash = \"client\""),
        r#"
error: hash of backend "pg" can't be used
 --> test.toml:8:8
  |
8 | hash = "client"
  |        ^^^^^^^^ it belongs to balance = "maglev", "ring_hash" or "source"
  |
  = help: remove the key
"#,
    );
}

#[test]
fn an_affinity_by_a_word_of_others() {
    check(
        &backend(
            "server = [{ address = \"10.0.0.1:5432\" }]\naffinity = { key = \"src\", expire = \"1m\" }",
        ),
        r#"
error: key of affinity of backend "pg" can't be used
 --> test.toml:8:20
  |
8 | affinity = { key = "src", expire = "1m" }
  |                    ^^^^^ it must be client_ip, client, sni or user
  |
  = help: this balancer says "client_ip"

error: unknown key "expire" in affinity of backend "pg"
 --> test.toml:8:27
  |
8 | affinity = { key = "src", expire = "1m" }
  |                           ^^^^^^
  |
  = help: this balancer says "ttl": ttl = "30m"
"#,
    );
}
