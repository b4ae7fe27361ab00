//! A member of a replicated database of any kind, with a table of numbers: what the stories about
//! primaries and replicas do with each of them in the same way.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::Value;

use super::balancer::Ringlane;
use super::mariadb::Mariadb;
use super::postgres::Postgres;
use super::redis::Redis;
use super::talk::Database;
use super::wait_until;

/// A server that is a primary or a replica.
pub(crate) enum Member {
    Postgres(Postgres),
    Redis(Redis),
    Mariadb(Mariadb),
}

impl Database {
    /// The keys of a check that logs in.
    pub(crate) fn check(self) -> &'static str {
        match self {
            Self::Postgres => "kind = \"postgres\", user = \"it\"",
            Self::Redis => "kind = \"redis\"",
            Self::Mariadb => "kind = \"mysql\", user = \"monitor\", password = \"open sesame\"",
        }
    }

    /// Its name as a frontend's `protocol`.
    pub(crate) fn protocol(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Mariadb => "mysql",
        }
    }

    /// What asks a server for its port, which tells it from the others.
    pub(crate) fn who(self) -> &'static str {
        match self {
            Self::Postgres => "SHOW port",
            Self::Redis => "CONFIG GET port",
            Self::Mariadb => "SELECT @@port",
        }
    }

    /// What writes a number.
    pub(crate) fn keep(self, number: u64) -> String {
        match self {
            Self::Postgres => format!("INSERT INTO kept VALUES ({number})"),
            Self::Redis => format!("SADD kept {number}"),
            Self::Mariadb => format!("INSERT INTO kept.t VALUES ({number})"),
        }
    }
}

impl Member {
    /// A primary with an empty table.
    pub(crate) fn primary(database: Database) -> Self {
        match database {
            Database::Postgres => {
                let server = Postgres::start();
                server.ask("CREATE TABLE kept (number bigint)");
                Self::Postgres(server)
            }
            Database::Redis => Self::Redis(Redis::start(&[])),
            Database::Mariadb => {
                let server = Mariadb::start(1);
                server.ask("CREATE DATABASE kept; CREATE TABLE kept.t (number BIGINT)");
                Self::Mariadb(server)
            }
        }
    }

    /// A replica that has the table; `number` tells it from the others.
    pub(crate) fn replica(&self, number: u32) -> Self {
        match self {
            Self::Postgres(primary) => Self::Postgres(Postgres::replica_of(primary)),
            Self::Redis(primary) => {
                let replica = Redis::start(&[]);
                replica.follow(primary.address);
                Self::Redis(replica)
            }
            Self::Mariadb(primary) => {
                let replica = Mariadb::start(1 + number);
                replica.follow(primary);
                let tables = "SELECT count(*) FROM information_schema.tables \
                    WHERE table_schema = 'kept'";
                wait_until("the table", || replica.ask(tables) == "1");
                Self::Mariadb(replica)
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Postgres(server) => server.address,
            Self::Redis(server) => server.address,
            Self::Mariadb(server) => server.address,
        }
    }

    /// All numbers that it has.
    pub(crate) fn kept(&self) -> BTreeSet<u64> {
        let text = match self {
            Self::Postgres(server) => server.ask("SELECT number FROM kept"),
            Self::Redis(server) => server.ask(&["SMEMBERS", "kept"]),
            Self::Mariadb(server) => server.ask("SELECT number FROM kept.t"),
        };
        text.split_whitespace().map(|number| number.parse().unwrap()).collect()
    }

    /// Ends it as a crash would.
    pub(crate) fn crash(&mut self) {
        match self {
            Self::Postgres(server) => server.crash(),
            Self::Redis(server) => server.crash(),
            Self::Mariadb(server) => server.crash(),
        }
    }

    /// Starts it again after a crash, with what it had.
    pub(crate) fn start_again(&mut self) {
        match self {
            Self::Postgres(server) => server.run(),
            Self::Redis(server) => server.run(),
            Self::Mariadb(server) => server.run(),
        }
    }

    /// Makes a replica the primary.
    pub(crate) fn promote(&self) {
        match self {
            Self::Postgres(server) => server.promote(),
            Self::Redis(server) => {
                server.ask(&["REPLICAOF", "NO", "ONE"]);
            }
            Self::Mariadb(server) => server.promote(),
        }
    }

    /// Keeps a replica from getting any further.
    pub(crate) fn hold_back(&self) {
        match self {
            Self::Postgres(server) => server.ask("SELECT pg_wal_replay_pause()"),
            // Nobody listens on port 1.
            Self::Redis(server) => server.ask(&["REPLICAOF", "127.0.0.1", "1"]),
            Self::Mariadb(server) => server.ask("STOP SLAVE SQL_THREAD"),
        };
    }

    /// Lets a replica that was held back follow its primary again.
    pub(crate) fn let_go(&self, primary: &Self) {
        match self {
            Self::Postgres(server) => {
                server.ask("SELECT pg_wal_replay_resume()");
            }
            Self::Redis(server) => server.follow(primary.address()),
            Self::Mariadb(server) => {
                server.ask("START SLAVE SQL_THREAD");
            }
        }
    }
}

/// Two frontends on one backend: `front` for writes, `reads` for replicas.
pub(crate) fn writes_and_reads(servers: &[(&str, String)], check: &str, keys: &str) -> String {
    let servers: Vec<String> = servers
        .iter()
        .map(|(name, address)| format!("{{ name = \"{name}\", address = \"{address}\" }}"))
        .collect();
    format!(
        "[[frontend]]\nname = \"front\"\nbind = \"127.0.0.1:0\"\nbackend = \"db\"\nrole = \"primary\"\n\
         [[frontend]]\nname = \"reads\"\nbind = \"127.0.0.1:0\"\nbackend = \"db\"\nrole = \"replica\"\n\
         [[backend]]\nname = \"db\"\ncheck = {{ {check} }}\n{keys}\nserver = [{}]\n",
        servers.join(", ")
    )
}

/// A field of every server in `/status`.
pub(crate) fn all(ringlane: &Ringlane, field: &str) -> Vec<Value> {
    let status = ringlane.status();
    let servers = status["backends"][0]["servers"].as_array().unwrap();
    servers.iter().map(|server| server[field].clone()).collect()
}

/// The keys of a check that sees soon what there is to be seen.
pub(crate) const CHECK: &str = "interval = \"100ms\", timeout = \"10s\", rise = 1, fall = 2";
