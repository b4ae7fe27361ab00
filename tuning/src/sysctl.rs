//! The one table of sysctls that matter to a layer-4 relay: key, value, reason, cost.
//!
//! Not here: advice that is no sysctl (`plan`). Invariant: `files/90-ringlane.conf` has the same
//! keys with the same values; a test compares them. `kernel.io_uring_disabled` is left out on
//! purpose: it is a security decision, so `plan` explains it and no file makes it in passing.

/// One kernel setting and what a relay wants it to be.
#[derive(Debug)]
pub(crate) struct Sysctl {
    /// Its name, with dots.
    pub(crate) key: &'static str,
    /// The value to set where the present one is not enough.
    pub(crate) wanted: &'static str,
    /// When the present value is enough.
    pub(crate) enough: Enough,
    /// What is lost without it.
    pub(crate) why: &'static str,
    /// What it costs.
    pub(crate) cost: &'static str,
}

/// When a present value needs no change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Enough {
    /// It is the wanted number.
    Exactly,
    /// It is the wanted number or a greater one.
    AtLeast,
    /// As `AtLeast`, or it is 0, which stands for no limit.
    AtLeastOrUnlimited,
    /// The last of its numbers is the last wanted one or greater.
    LastAtLeast,
    /// It is a range with as many values as the wanted one, or more.
    AsWide,
}

impl Sysctl {
    /// Where the kernel keeps it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/sys/{}", self.key.replace('.', "/"))
    }

    /// Whether the present value `now` needs no change. A value that can't be read as numbers is
    /// left alone: it is not understood, so nothing can be said about it.
    pub(crate) fn is_enough(&self, now: &str) -> bool {
        let (Some(now), Some(wanted)) = (numbers(now), numbers(self.wanted)) else { return true };
        match self.enough {
            Enough::Exactly => now == wanted,
            Enough::AtLeast => now.last() >= wanted.last(),
            Enough::AtLeastOrUnlimited => now == [0] || now.last() >= wanted.last(),
            Enough::LastAtLeast => now.len() == wanted.len() && now.last() >= wanted.last(),
            Enough::AsWide => width(&now) >= width(&wanted),
        }
    }
}

fn numbers(text: &str) -> Option<Vec<u64>> {
    text.split_whitespace().map(|word| word.parse().ok()).collect()
}

fn width(range: &[u64]) -> u64 {
    match range {
        [low, high] => (high + 1).saturating_sub(*low),
        _ => 0,
    }
}

/// Every sysctl that this crate has an opinion about.
pub(crate) const SYSCTLS: &[Sysctl] = &[
    Sysctl {
        key: "net.core.somaxconn",
        wanted: "65535",
        enough: Enough::AtLeast,
        why: "The kernel cuts every listener's queue to this. Connections above max_connections \
              wait there, and a burst that overflows it costs its clients a second or more each.",
        cost: "Memory only for connections that wait, about 3 KiB each.",
    },
    Sysctl {
        key: "net.ipv4.tcp_max_syn_backlog",
        wanted: "65535",
        enough: Enough::AtLeast,
        why: "Handshakes in progress per listener before new clients are dropped. It counts only \
              where tcp_syncookies is 0.",
        cost: "Memory only for handshakes in progress, about 300 bytes each.",
    },
    Sysctl {
        key: "net.core.netdev_max_backlog",
        wanted: "16384",
        enough: Enough::AtLeast,
        why: "Packets per CPU that wait between softirq and protocol on loopback, veth and \
              receive packet steering; what does not fit is lost and sent again.",
        cost: "Memory only while packets wait; under overload they wait longer.",
    },
    Sysctl {
        key: "net.ipv4.ip_local_port_range",
        wanted: "16384 65535",
        enough: Enough::AsWide,
        why: "Each session takes one local port towards its server; the default leaves 28232 per \
              server address and port.",
        cost: "Programs of this host that listen between 16384 and 32767 may find their port \
               taken when they start: name such ports in net.ipv4.ip_local_reserved_ports.",
    },
    Sysctl {
        key: "net.ipv4.tcp_tw_reuse",
        wanted: "1",
        enough: Enough::Exactly,
        why: "A port towards a server stays taken for a minute after Ringlane closed first. With \
              this, a new connection may take it after a second (TCP timestamps keep it safe).",
        cost: "None where both sides use TCP timestamps; it does nothing elsewhere.",
    },
    Sysctl {
        key: "net.ipv4.tcp_wmem",
        wanted: "4096 16384 16777216",
        enough: Enough::LastAtLeast,
        why: "The greatest send buffer bounds what one session can have in flight: 4 MiB fill \
              only 0.3 Gbit/s towards a client that is 100 ms away.",
        cost: "Up to 16 MiB for a session that really has so much in flight; bounded by tcp_mem.",
    },
    Sysctl {
        key: "net.ipv4.tcp_rmem",
        wanted: "4096 131072 33554432",
        enough: Enough::LastAtLeast,
        why: "The greatest receive buffer bounds the window offered to distant senders, in the \
              same way. Recent kernels have 32 MiB by default.",
        cost: "Up to 32 MiB for a session whose sender is that far ahead; bounded by tcp_mem.",
    },
    Sysctl {
        key: "net.ipv4.tcp_slow_start_after_idle",
        wanted: "0",
        enough: Enough::Exactly,
        why: "A database session pauses between queries. By default each pause forgets what the \
              path can carry, and the next large answer starts slowly again.",
        cost: "A burst after a pause, on a path that may have become narrower meanwhile.",
    },
    Sysctl {
        key: "net.ipv4.tcp_migrate_req",
        wanted: "1",
        enough: Enough::Exactly,
        why: "Every shard has a listener of its own. When one closes (drain, upgrade), connections \
              that wait in its queue move to another listener of that address instead of being \
              reset.",
        cost: "None known.",
    },
    Sysctl {
        key: "fs.pipe-max-size",
        wanted: "1048576",
        enough: Enough::AtLeast,
        why: "Bulk transfers are spliced through pipes of 1 MiB; smaller ones mean more system \
              calls per byte.",
        cost: "None: it is a bound, and the kernel's default.",
    },
    Sysctl {
        key: "fs.pipe-user-pages-soft",
        wanted: "1048576",
        enough: Enough::AtLeastOrUnlimited,
        why: "Without privileges, all pipes of one user share this many pages: the default of \
              16384 is 64 bulk directions. Later ones get pipes of two pages.",
        cost: "Up to 4 GiB, should so many bulk transfers have full pipes at once; any process of \
               the same user may do it too.",
    },
    Sysctl {
        key: "net.netfilter.nf_conntrack_max",
        wanted: "1048576",
        enough: Enough::AtLeast,
        why: "Where connection tracking is loaded, each relayed session takes two entries, and \
              new connections are dropped while the table is full. Better still, exempt the \
              relayed ports (nftables: notrack).",
        cost: "About 400 bytes per entry in use, 400 MiB for a full table.",
    },
];
