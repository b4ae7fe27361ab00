//! What a run needs of the machine: descriptors, cores, and a word when somebody presses Ctrl-C.

use std::sync::mpsc::Sender;
use std::thread;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

/// Raises the soft limit of open files to the hard one: sessions may be many thousands.
pub(crate) fn raise_descriptor_limit() -> Result<(), String> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(|error| format!("cannot read the limit of open files: {error}"))?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
            .map_err(|error| format!("cannot raise the limit of open files to {hard}: {error}"))?;
    }
    Ok(())
}

/// Refuses a run that cannot have a descriptor for each session.
pub(crate) fn check_descriptors(sessions: usize) -> Result<(), String> {
    let spare = 64;
    let needed = sessions as u64 + spare;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, _)) if soft < needed => Err(format!(
            "{sessions} sessions need {needed} open files, the limit is {soft}: \
             raise it with `ulimit -n {needed}`"
        )),
        _ => Ok(()),
    }
}

/// Pins the calling thread, the `index`th, to one of `cpus`; leaves it alone without any.
pub(crate) fn pin(cpus: &[usize], index: usize) -> Result<(), String> {
    if cpus.is_empty() {
        return Ok(());
    }
    let cpu = cpus[index % cpus.len()];
    let mut set = CpuSet::new();
    set.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|error| format!("cannot pin a thread to core {cpu}: {error}"))
}

/// Sends `message()` at the first SIGINT or SIGTERM; the second ends the process.
///
/// Must be called before any other thread exists: they inherit that these signals are blocked.
pub(crate) fn tell_of_interrupt<T: Send + 'static>(
    to: Sender<T>,
    message: fn() -> T,
) -> Result<(), String> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().map_err(|error| format!("cannot block signals: {error}"))?;
    thread::spawn(move || {
        for nth in 1.. {
            if signals.wait().is_err() || nth > 1 || to.send(message()).is_err() {
                std::process::exit(130);
            }
        }
    });
    Ok(())
}
