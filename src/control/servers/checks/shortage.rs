//! What this machine has run out of: descriptors, memory, ports, processes.
//!
//! A check that fails for such a reason has learnt nothing about its server. Every kind of check
//! gets the text of its errors from `Destination::text`, which looks for a shortage in them. Not
//! here: what follows from it (`Servers::check_impossible`).

use std::error::Error;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use ringlane_core::machine::sys::is_refusal;

use crate::control::log::{self, Level, Notice};

/// The shortest time between two warnings: all checks fail at once.
const WARNING_PAUSE: Duration = Duration::from_secs(10);

static LAST_WARNING: Mutex<Option<Instant>> = Mutex::new(None);

/// Whether an error, or one that caused it, is a shortage of this machine.
pub(super) fn is_shortage(error: &(dyn Error + 'static)) -> bool {
    // Which is how the crate for Redis wraps errors.
    if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        return is_shortage(&**shared);
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        let inner = error.get_ref();
        return is_own(error) || inner.is_some_and(|inner| is_shortage(inner));
    }
    error.source().is_some_and(is_shortage)
}

fn is_own(error: &io::Error) -> bool {
    // The last: of epoll (`fs.epoll.max_user_watches`).
    let ran_out = matches!(
        Errno::from_raw(error.raw_os_error().unwrap_or_default()),
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS | Errno::ENOSPC
    );
    let no_thread = error.kind() == ErrorKind::QuotaExceeded;
    ran_out || no_thread || (is_taken(error) && !is_refusal(error))
}

/// Whether a process could not be started for want of processes, descriptors or memory.
pub(super) fn is_of_fork(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EAGAIN as i32) || is_own(error)
}

/// Whether a local address is in use, or no port of it is left.
pub(super) fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable)
}

/// Logs that a check could not be performed: a warning, but not for every check.
pub(super) fn warn(server: &str, why: &str) {
    let now = Instant::now();
    let mut last = LAST_WARNING.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_some_and(|last| now.duration_since(last) < WARNING_PAUSE) {
        return;
    }
    *last = Some(now);
    drop(last);
    let text = format!(
        "server {server} cannot be checked by this machine: {why}; its state stays as it is (other \
         servers may be affected)"
    );
    log::write(&Notice::new(Level::Warning, "check_impossible", text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortages_are_found_behind_the_errors_of_crates() {
        let own = |errno: Errno| io::Error::from(errno);
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EADDRNOTAVAIL] {
            let mysql = mysql_async::Error::Io(mysql_async::IoError::Io(own(errno)));
            let redis = redis::RedisError::from(own(errno));
            let nested = io::Error::other(own(errno));
            assert!(is_shortage(&own(errno)), "{errno}");
            assert!(is_shortage(&mysql) && is_shortage(&redis) && is_shortage(&nested), "{errno}");
        }
        for errno in [Errno::ECONNREFUSED, Errno::ECONNRESET, Errno::EAGAIN, Errno::EACCES] {
            let mysql = mysql_async::Error::Io(mysql_async::IoError::Io(own(errno)));
            assert!(!is_shortage(&own(errno)) && !is_shortage(&mysql), "{errno}");
        }
        assert!(is_of_fork(&own(Errno::EAGAIN)) && !is_of_fork(&own(Errno::ENOENT)));
    }
}
