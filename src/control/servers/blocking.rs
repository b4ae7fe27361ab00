//! Work that may block, such as reading a file on a mount that hangs, off the control thread.
//!
//! Invariants: at most one call per key is under way, and further callers wait for its result, so
//! that a file that hangs holds one thread and no more; only regular files are read, since a pipe
//! or a device may block for ever. A call whose caller has given up goes on by itself; the end of
//! the process does not wait for it. Each call has a thread of its own, since tokio's pool panics
//! when no thread can be created.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::hash::Hash;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use nix::fcntl::OFlag;
use tokio::sync::watch;

use crate::control::thread;

/// Calls of one kind that may be under way at once.
const UNDER_WAY_MAX: usize = 128;

/// Bytes of the largest file that is read: the certificates of a whole system have 200 KiB.
const FILE_MAX: u64 = 4 << 20;

/// Calls of one kind, by their keys.
pub(in crate::control) struct Blocking<K, T> {
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Option<T>>>>>,
}

impl<K: Clone + Eq + Hash + Send + 'static, T: Clone + Send + Sync + 'static> Blocking<K, T> {
    /// None under way.
    pub(in crate::control) fn new() -> Self {
        Self { under_way: Arc::default() }
    }

    /// The result of `work`, or of the call for the same key that is already under way. An error if
    /// too many are, or if no thread can be created: of kind [`ErrorKind::QuotaExceeded`].
    pub(in crate::control) async fn run(
        &self,
        key: K,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let mut answer = self.begin(key, work)?;
        let found = answer.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        found.ok_or_else(|| io::Error::other("the read was abandoned"))
    }

    fn begin(
        &self,
        key: K,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<watch::Receiver<Option<T>>> {
        // What is inside is whole at any time.
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = under_way.get(&key) {
            return Ok(answer.clone());
        }
        if under_way.len() >= UNDER_WAY_MAX {
            return Err(io::Error::new(
                ErrorKind::QuotaExceeded,
                "too many reads of other files hang",
            ));
        }
        let (tell, answer) = watch::channel(None);
        let (calls, own) = (Arc::clone(&self.under_way), key.clone());
        let call = move || {
            let found = work();
            // Before the result is published: later callers are to see the file as it is then.
            calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&own);
            tell.send_replace(Some(found));
        };
        thread::spawn("blocking", call).map_err(|error| {
            let text = format!("cannot create a thread: {error}");
            io::Error::new(ErrorKind::QuotaExceeded, text)
        })?;
        // The call can't have ended yet: its entry is removed under the lock that is held here.
        under_way.insert(key, answer.clone());
        Ok(answer)
    }
}

/// A file's bytes, or why it can't be read.
type Bytes = Result<Arc<[u8]>, Arc<io::Error>>;

static FILES: LazyLock<Blocking<PathBuf, Bytes>> = LazyLock::new(Blocking::new);

/// The content of a regular file.
pub(in crate::control) async fn read_file(path: &Path) -> Bytes {
    let path = path.to_owned();
    let bytes = FILES.run(path.clone(), move || read_regular(&path).map_err(Arc::new)).await;
    bytes.map_err(Arc::new).flatten()
}

fn read_regular(path: &Path) -> io::Result<Arc<[u8]>> {
    // A pipe without a writer is opened at once and then refused.
    let flags = OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!("larger than {} MiB", FILE_MAX >> 20)));
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::Builder;
    use tokio::task::yield_now;

    use super::*;

    #[test]
    fn what_hangs_holds_one_thread_however_often_it_is_asked_for() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let calls: Blocking<u32, u32> = Blocking::new();
        let (go, wait) = mpsc::channel::<()>();
        runtime.block_on(async {
            let first = calls.run(7, move || {
                let _ = wait.recv();
                1
            });
            let second = calls.run(7, || 2);
            let other = calls.run(8, || 3);
            let (first, second, other) = tokio::join!(first, second, async {
                let other = other.await;
                yield_now().await;
                go.send(()).unwrap();
                other
            });
            let found = [first, second, other].map(Result::ok);
            assert_eq!(found, [Some(1), Some(1), Some(3)]);
            assert_eq!(calls.run(7, || 4).await.ok(), Some(4), "asked again once it is over");
        });
    }

    #[test]
    fn only_regular_files_are_read() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let read = |path: &str| runtime.block_on(read_file(Path::new(path)));
        let text = read("/etc/passwd").unwrap();
        assert!(!text.is_empty());
        assert_eq!(read("/dev/zero").unwrap_err().to_string(), "not a regular file");
        assert_eq!(read("/etc").unwrap_err().to_string(), "not a regular file");
        assert_eq!(read("/nowhere").unwrap_err().kind(), ErrorKind::NotFound);
    }
}
