//! Recorded hosts through facts, plan and explanation; the sysctl file against the table.

use std::collections::BTreeMap;

use super::*;
use crate::sysctl::SYSCTLS;

/// Facts of a recorded host: sections of `== PATH` and the file's text.
fn host(record: &str) -> Facts {
    let files: BTreeMap<&str, &str> =
        record.split("== ").skip(1).filter_map(|section| section.split_once('\n')).collect();
    Facts::gather(|path| files.get(path).map(|text| (*text).to_owned()))
}

fn keys(facts: &Facts) -> Vec<&'static str> {
    plan(facts).iter().map(|change| change.key).collect()
}

#[test]
fn a_virtual_machine_with_defaults_and_bbr() {
    let facts = host(include_str!("../hosts/vm-linux-6.18.txt"));
    assert_eq!(facts.kernel.as_deref(), Some("6.18.44"));
    assert_eq!((facts.cpus, facts.cpu_quota), (2, None));
    assert_eq!((facts.open_files_max, facts.locked_memory_max), (Some(20_000), Some(8 << 20)));
    assert_eq!(facts.sysctls["net.ipv4.tcp_wmem"], "4096 16384 4194304", "tabs made spaces");
    assert_eq!(
        keys(&facts),
        [
            "net.core.somaxconn",
            "net.ipv4.tcp_max_syn_backlog",
            "net.core.netdev_max_backlog",
            "net.ipv4.ip_local_port_range",
            "net.ipv4.tcp_tw_reuse",
            "net.ipv4.tcp_wmem",
            "net.ipv4.tcp_slow_start_after_idle",
            "net.ipv4.tcp_migrate_req",
            "fs.pipe-user-pages-soft",
            "net.netfilter.nf_conntrack_max",
            "limit.open_files",
            "net.ipv4.tcp_allowed_congestion_control",
        ],
        "tcp_rmem and pipe-max-size are enough already"
    );
}

#[test]
fn a_container_hears_what_stops_it_first() {
    let facts = host(include_str!("../hosts/container-quota.txt"));
    assert_eq!(facts.cpu_quota, Some((150_000, 100_000)), "the parent's, which is tighter");
    assert_eq!(
        keys(&facts),
        ["kernel.io_uring_disabled", "net.core.somaxconn", "limit.locked_memory", "cgroup.cpu.max"],
        "hidden sysctls are no reason for a change"
    );
}

#[test]
fn a_tuned_server_is_left_alone() {
    let facts = host(include_str!("../hosts/tuned-server.txt"));
    assert_eq!(plan(&facts), []);
    assert!(explain(&facts, &[]).contains("Nothing to change"));
}

#[test]
fn a_host_that_shows_nothing_gets_no_advice() {
    let facts = host("");
    assert_eq!(facts, Facts::default());
    assert_eq!(plan(&facts), []);
}

#[test]
fn an_old_kernel_is_named() {
    for (release, wanted) in [
        ("5.10.0-28-amd64", true),
        ("6.0.19", true),
        ("6.1.0", false),
        ("6.10.3", false),
        ("10.0", false),
        ("weird", false),
    ] {
        let facts = Facts { kernel: Some(release.to_owned()), ..Facts::default() };
        assert_eq!(keys(&facts).contains(&"kernel.osrelease"), wanted, "{release}");
    }
}

#[test]
fn values_that_are_not_numbers_are_left_alone() {
    for sysctl in SYSCTLS {
        assert!(sysctl.is_enough("strange"), "{}", sysctl.key);
        assert!(sysctl.is_enough(sysctl.wanted), "{}", sysctl.key);
        assert!(
            !sysctl.wanted.contains("  ") && sysctl.path().starts_with("/proc/sys/"),
            "{}",
            sysctl.key
        );
    }
}

#[test]
fn the_explanation_gives_reason_cost_way_and_lines_to_copy() {
    let facts = host(include_str!("../hosts/container-quota.txt"));
    let text = explain(&facts, &plan(&facts));
    assert!(text.starts_with("This host: Linux 6.1.0-18-amd64, 4 CPUs (unknown), "), "{text}");
    assert!(text.contains("4 things to change for a layer-4 relay. Nothing has been changed."));
    assert!(text.contains("\nnet.core.somaxconn\n  now     4096\n  wanted  65535\n  why     The"));
    assert!(text.contains("\n  how     LimitMEMLOCK="));
    assert!(text.ends_with("\n\n  net.core.somaxconn = 65535\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100 && line == line.trim_end()));
}

/// The `key = value` lines of a sysctl.d file, each with whether a comment stands above it.
fn sysctl_file(text: &'static str) -> BTreeMap<&'static str, (&'static str, bool)> {
    let mut commented = false;
    let mut found = BTreeMap::new();
    for line in text.lines() {
        if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            found.insert(key.trim().trim_start_matches('-'), (value.trim(), commented));
        }
        commented = line.starts_with('#');
    }
    found
}

#[test]
fn the_sysctl_file_and_the_table_agree() {
    let file = sysctl_file(include_str!("../files/90-ringlane.conf"));
    let table: BTreeMap<_, _> = SYSCTLS.iter().map(|s| (s.key, (s.wanted, true))).collect();
    assert_eq!(file, table, "same keys, same values, a reason above each");
}

#[test]
fn the_unit_asks_for_what_the_plan_asks_for() {
    let unit = include_str!("../files/ringlane.service");
    for line in ["Type=notify", "LimitNOFILE=1048576", "AmbientCapabilities=CAP_NET_BIND_SERVICE"] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
}

#[test]
fn the_report_of_this_host_can_be_made() {
    assert!(report().starts_with("This host: Linux "));
}
