//! Hints for unknown keys: words of other balancers, typos, keys of another table.
//!
//! The words of HAProxy, nginx, Envoy and others are listed here only for hints; none of them is
//! accepted. Next: `schema`, which has the keys.

use strsim::damerau_levenshtein;

use super::report::quoted;
use super::schema::Section;

/// Words longer than this are not compared with others.
const COMPARED_MAX: usize = 64;

/// Largest number of candidates that a word is compared with.
const CANDIDATES_MAX: usize = 1000;

/// Words of other balancers and our keys, the best match first; a key counts only in its table.
const FOREIGN: &[(&[&str], &[&str])] = &[
    (&["upstream", "cluster", "pool", "service", "target_group"], &["backend"]),
    (&["default_backend", "proxy_pass", "to_backend"], &["backend"]),
    (&["listener", "entrypoint", "proxy", "virtual_server", "vip"], &["frontend", "bind"]),
    (&["listen", "port", "ports", "listen_on"], &["bind", "frontend", "address"]),
    (
        &["host", "target", "endpoint", "addr", "ip", "url", "node", "uri", "real", "peer"],
        &["address", "bind", "server"],
    ),
    (
        &[
            "servers",
            "hosts",
            "targets",
            "endpoints",
            "nodes",
            "members",
            "member",
            "peers",
            "reals",
        ],
        &["server"],
    ),
    (&["maxconn", "max_conn", "max_conns", "max_clients", "connections"], &["max_connections"]),
    (&["ulimit_n", "worker_rlimit_nofile", "nofile", "fullconn"], &["max_connections"]),
    (&["connection_limit", "worker_connections", "maxconnections"], &["max_connections"]),
    (&["algorithm", "lb", "method", "lb_policy", "lb_method", "load_balancing"], &["balance"]),
    (&["policy", "scheduler", "strategy", "load_balancer"], &["balance"]),
    (&["protocol", "proto", "type", "kind"], &["mode"]),
    (&["workers", "threads", "worker_processes", "nbthread", "nbproc", "cores"], &["shards"]),
    (&["worker", "thread", "cpus", "concurrency", "processes"], &["shards"]),
    (&["cpu_affinity", "cpu_map", "affinity", "worker_cpu_affinity"], &["pin"]),
    (&["stats", "api", "metrics", "dashboard", "status"], &["admin", "http"]),
    (&["uid", "run_as"], &["user"]),
    (&["gid"], &["group"]),
    (&["logs", "logging"], &["log", "access_log"]),
    (&["accesslog", "log_format", "tcplog"], &["access_log"]),
    (&["grace", "lame_duck", "pre_stop", "drain_delay"], &["shutdown_delay"]),
    (&["graceful_timeout", "shutdown_timeout", "hard_stop_after"], &["drain_timeout"]),
    (&["timeouts", "timeout_idle", "idle_timeout", "proxy_timeout"], &["timeout", "idle"]),
    (&["connect_timeout", "timeout_connect", "proxy_connect_timeout"], &["timeout", "connect"]),
    (&["timeout_client", "client_timeout"], &["timeout", "client"]),
    (&["timeout_server", "server_timeout"], &["timeout", "server"]),
    (
        &["client_fin", "server_fin", "timeout_client_fin", "half_close_timeout"],
        &["fin", "timeout"],
    ),
    (&["file", "path", "destination", "output", "target"], &["to", "socket"]),
    (&["unix", "sock"], &["socket"]),
    (&["tcp", "listen", "bind", "address", "port"], &["http"]),
    (&["id", "label", "title"], &["name"]),
    (&["tcpka", "clitcpka", "srvtcpka", "so_keepalive", "tcp_keepalive"], &["keepalive", "tcp"]),
    (&["keepalive_timeout", "keepidle"], &["idle"]),
    (&["tcp_user_timeout", "tcp_ut"], &["user_timeout", "tcp"]),
    (&["tfo", "fastopen", "tcp_fastopen"], &["fast_open", "tcp"]),
    (&["fwmark", "so_mark", "set_mark"], &["mark", "tcp"]),
    (&["tos", "qos", "set_tos"], &["dscp", "tcp"]),
    (&["proxy_bind", "bind_address", "source_address", "outgoing_address"], &["source"]),
    (&["usesrc", "tproxy", "source_transparent"], &["transparent"]),
    (&["tcp_congestion", "congestion_control", "cc"], &["congestion"]),
    (&["splice", "splicing", "option_splice"], &["path"]),
    (&["priority", "share", "load"], &["weight"]),
    (&["spare", "standby", "reserve", "fallback"], &["backup"]),
    (&["health_check", "healthcheck", "option_httpchk", "option"], &["check"]),
    (&["inter", "check_interval"], &["interval", "check"]),
    (&["fastinter", "fast_inter", "downinter"], &["fast_interval", "check"]),
    (&["fails", "unhealthy_threshold"], &["fall", "check"]),
    (&["passes", "healthy_threshold"], &["rise", "check"]),
    (&["uri", "url"], &["path"]),
    (&["slowstart", "warmup"], &["slow_start"]),
    (&["proxy_protocol", "expect_proxy"], &["accept_proxy", "send_proxy"]),
    (&["send_proxy_v2", "send_proxy_protocol"], &["send_proxy"]),
    (&["tlvs", "proxy_v2_options", "options"], &["details"]),
    (&["bwlim", "bwlim_in", "bwlim_out", "limit_rate", "throttle"], &["bandwidth"]),
    (&["proxy_download_rate", "proxy_upload_rate"], &["bandwidth"]),
    (&["shadow", "mirroring", "request_mirror_policies", "tee"], &["mirror"]),
    (&["on_marked_down", "on_error"], &["on_down"]),
    (&["max_replication_lag", "maximum_lag"], &["max_lag"]),
    (&["observe", "outlier_detection", "passive_health_check"], &["outlier"]),
    (&["max_fails", "fail_timeout", "error_limit"], &["outlier"]),
    (&["consecutive_5xx", "consecutive_errors", "error_limit", "max_fails"], &["failures"]),
    (&["base_ejection_time", "fail_timeout"], &["base"]),
    (&["max_ejection_time"], &["max"]),
    (&["max_ejection_percent"], &["share"]),
    (&["panic_threshold", "healthy_panic_threshold"], &["fail_open"]),
    (&["target_session_attrs", "read_write"], &["role"]),
    (
        &["stick_table", "stick_on", "sticky", "stick", "stickiness", "session_affinity"],
        &["affinity"],
    ),
    (&["persistence", "session_persistence", "persist"], &["affinity"]),
    (&["hash_key", "hash_on", "hash_type", "hash_policy"], &["hash"]),
    (&["hash_balance_factor", "balance_factor", "load_factor"], &["bounded_load"]),
    (&["rate_limit", "rate_limit_sessions", "conn_rate", "limit_req"], &["rate"]),
    (&["limit_conn", "per_ip", "client_limits", "per_source"], &["per_client"]),
    (&["whitelist", "allowlist", "except", "allow_list"], &["allow"]),
    (&["routes", "rules", "acl", "match", "use_backend", "use_backend_if"], &["route"]),
    (&["tcp_request", "map", "switching", "routing"], &["route"]),
    (&["server_name", "servername", "req_ssl_sni", "hostname", "hosts"], &["sni"]),
    (&["inspect_delay", "preread_timeout", "greeting_timeout"], &["greeting", "timeout"]),
    (&["ssl_preread", "tls_inspector", "app", "application"], &["protocol"]),
    (&["max_queue", "maxqueue", "timeout_queue", "pending"], &["queue"]),
    (&["expire", "timeout", "ttl_seconds"], &["ttl"]),
    (&["entries", "max_entries", "capacity"], &["size"]),
    (&["resolvers", "dns", "nameserver", "nameservers"], &["servers", "resolver"]),
    (&["hold_valid", "hold_nx", "keep"], &["hold"]),
    (&["disabled", "down", "enabled", "maintenance", "admin_state"], &["state"]),
    (&["import", "includes"], &["include"]),
    (&["server_template", "instances", "count"], &["slots"]),
    (&["default_server", "server_list", "addresses"], &["server"]),
    (&["settings", "main", "general", "process", "defaults"], &["global"]),
];

/// Words of other balancers for features that need no key here.
const NEEDLESS: &[(&[&str], &str)] = &[
    (
        &["daemon", "master_worker", "background", "pidfile", "pid"],
        "the process always runs in the foreground, for systemd or a container; remove the key",
    ),
    (
        &["retries", "redispatch", "option_redispatch", "proxy_next_upstream", "num_retries"],
        "when a server refuses, a session already tries all the others; remove the key",
    ),
    (
        &["include", "import", "includes"],
        "include stands at the top of a file, before the first table",
    ),
    (&["chroot"], "not supported: restrict the process with systemd instead; remove the key"),
    (
        &["http_request", "http_response", "cookie", "errorfile", "add_header", "location"],
        "this version balances TCP and does not inspect HTTP; remove the key",
    ),
];

/// Words for features that this version does not have yet.
const LATER: &[(&[&str], &str)] =
    &[(&["tls", "ssl", "cert", "certificate", "certificates"], "tls")];

/// The key of `section` that an unknown word most likely stands for.
pub(in crate::config) fn meant(section: Section, word: &str) -> Option<&'static str> {
    let plain = plain(word);
    let key = |key: &str| section.keys().iter().map(|key| key.name).find(|name| *name == key);
    if let Some(same) = key(&plain) {
        return Some(same);
    }
    let theirs = FOREIGN.iter().filter(|(words, _)| words.contains(&plain.as_str()));
    if let Some(ours) = theirs.flat_map(|(_, ours)| *ours).find_map(|ours| key(ours)) {
        return Some(ours);
    }
    let is_needless = NEEDLESS.iter().any(|(words, _)| words.contains(&plain.as_str()));
    if elsewhere(&plain).is_some() || later(&plain).is_some() || is_needless {
        return None;
    }
    nearest(&plain, section.keys().iter().map(|key| key.name))
}

/// The hint for a key that `section` does not have.
pub(in crate::config) fn hint_for_key(section: Section, word: &str) -> String {
    let plain = plain(word);
    if let Some(key) = meant(section, word) {
        let is_foreign = FOREIGN.iter().any(|(words, _)| words.contains(&plain.as_str()));
        return match (key == plain, is_foreign) {
            (true, _) => format!("this key is spelled {key}"),
            (_, true) => {
                format!("here this is called {}: {}", quoted(key), section.example(key))
            }
            _ => format!("did you mean {}?", quoted(key)),
        };
    }
    if let Some(ours) = later(&plain) {
        return format!("this version does not support {ours}; remove the key");
    }
    if let Some((_, why)) = NEEDLESS.iter().find(|(words, _)| words.contains(&plain.as_str())) {
        return (*why).to_owned();
    }
    if let Some((other, ours)) = foreign_elsewhere(&plain) {
        return format!(
            "here this is called {}, a key of {}: {}",
            quoted(ours),
            other.called(),
            other.example(ours)
        );
    }
    if let Some(other) = elsewhere(&plain) {
        return format!("{plain} is a key of {}", other.called());
    }
    let known: Vec<&str> = section.keys().iter().map(|key| key.name).collect();
    format!("valid keys of {}: {}", section.called(), known.join(", "))
}

/// A word in the spelling of our keys.
pub(in crate::config) fn plain(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

/// The table that has this key.
fn elsewhere(key: &str) -> Option<Section> {
    Section::ALL.into_iter().find(|section| *section != Section::Root && section.has(key))
}

/// The key of another table that a word of other balancers stands for.
fn foreign_elsewhere(plain: &str) -> Option<(Section, &'static str)> {
    if elsewhere(plain).is_some() {
        return None;
    }
    let theirs = FOREIGN.iter().filter(|(words, _)| words.contains(&plain));
    let mut ours = theirs.flat_map(|(_, ours)| *ours);
    ours.find_map(|ours| elsewhere(ours).map(|section| (section, *ours)))
}

/// The missing feature that a word stands for.
fn later(word: &str) -> Option<&'static str> {
    LATER.iter().find(|(words, _)| words.contains(&word)).map(|(_, ours)| *ours)
}

/// The candidate nearest to `word`, if one is near enough to be a typo.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    if word.len() > COMPARED_MAX {
        return None;
    }
    let near = (word.chars().count() / 3).max(1);
    candidates
        .take(CANDIDATES_MAX)
        .filter(|candidate| candidate.len() <= COMPARED_MAX && !candidate.is_empty())
        .map(|candidate| (damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= near && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `a, b or c`.
pub(in crate::config) fn listed<S: AsRef<str>>(words: &[S]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match words.as_slice() {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_other_balancers_get_our_key() {
        for (section, word, hint) in [
            (Section::Root, "upstream", "here this is called \"backend\": [[backend]]"),
            (Section::Root, "cluster", "here this is called \"backend\": [[backend]]"),
            (Section::Frontend, "pool", "called \"backend\""),
            (Section::Frontend, "service", "called \"backend\""),
            (Section::Frontend, "listen", "called \"bind\""),
            (Section::Frontend, "port", "called \"bind\""),
            (Section::Server, "host", "called \"address\""),
            (Section::Server, "target", "called \"address\""),
            (Section::Server, "endpoint", "called \"address\""),
            (Section::Server, "addr", "called \"address\""),
            (Section::Server, "node", "called \"address\""),
            (Section::Backend, "node", "called \"server\""),
            (Section::Frontend, "maxconn", "called \"max_connections\""),
            (Section::Global, "max-conn", "called \"max_connections\""),
            (Section::Backend, "algorithm", "called \"balance\""),
            (Section::Backend, "lb", "called \"balance\""),
            (Section::Backend, "method", "called \"balance\""),
            (Section::Global, "workers", "called \"shards\""),
            (Section::Frontend, "connect_timeout", "called \"timeout\""),
            (Section::Frontend, "use_backend", "called \"route\": route = [{ sni"),
            (Section::Backend, "max_fails", "called \"outlier\": outlier = {"),
            (Section::Server, "max_fails", "called \"outlier\", a key of [[backend]]: outlier = {"),
            (Section::Server, "fail-timeout", "called \"outlier\", a key of [[backend]]"),
            (Section::Outlier, "max_fails", "called \"failures\""),
            (Section::Server, "inter", "called \"interval\", a key of check in [[backend]]"),
            (Section::Global, "daemon", "always runs in the foreground"),
            (Section::Backend, "retries", "already tries all the others"),
            (Section::Backend, "stick-on", "called \"affinity\""),
        ] {
            let found = hint_for_key(section, word);
            assert!(found.contains(hint), "{word} in {section:?}: {found}");
        }
    }

    #[test]
    fn hints_name_the_nearest_key_and_the_right_table() {
        for (section, word, hint) in [
            (Section::Frontend, "backnd", "did you mean \"backend\"?"),
            (Section::Frontend, "Max-Connections", "spelled max_connections"),
            (Section::Backend, "servers", "called \"server\""),
            (Section::Frontend, "balance", "balance is a key of [[backend]]"),
            (Section::Backend, "bind", "bind is a key of [[frontend]]"),
            (Section::Root, "server", "server is a key of [[backend]]"),
            (Section::Root, "shards", "shards is a key of [global]"),
            (Section::Check, "inter", "here this is called \"interval\""),
            (Section::Backend, "role", "role is a key of [[frontend]]"),
            (Section::Backend, "rise", "rise is a key of check in [[backend]]"),
            (Section::Admin, "xyzzy", "valid keys of admin in [global]: socket, http, tokens"),
        ] {
            let found = hint_for_key(section, word);
            assert!(found.contains(hint), "{word} in {section:?}: {found}");
        }
    }
}
