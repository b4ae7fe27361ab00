//! The signals that the control thread answers, and those that must do nothing.
//!
//! Not here: the answers (`serving`). Invariants: no signal that is sent by habit or by mistake
//! ends the process, except SIGKILL and those that ask for a core dump; shards never see a signal,
//! so that none of their waits in the kernel is interrupted. Handlers do not survive an exec, so
//! that programs started by checks get signals as usual.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use nix::libc::{SIGRTMAX, SIGRTMIN};
use nix::sys::signal::Signal as Number;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// The meaning of a signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::control) enum Signal {
    /// SIGTERM, SIGINT or SIGQUIT: end.
    End(&'static str),
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: open log files again.
    Reopen,
    /// SIGUSR2: hand sessions over to a new process.
    Upgrade,
    /// One that means nothing here.
    Meaningless(&'static str),
}

/// What is done about signals that would otherwise end the process.
const ANSWERS: [(Number, Signal); 13] = [
    (Number::SIGTERM, Signal::End("SIGTERM")),
    (Number::SIGINT, Signal::End("SIGINT")),
    (Number::SIGQUIT, Signal::End("SIGQUIT")),
    (Number::SIGHUP, Signal::Reload),
    (Number::SIGUSR1, Signal::Reopen),
    (Number::SIGUSR2, Signal::Upgrade),
    (Number::SIGALRM, Signal::Meaningless("SIGALRM")),
    (Number::SIGVTALRM, Signal::Meaningless("SIGVTALRM")),
    (Number::SIGPROF, Signal::Meaningless("SIGPROF")),
    (Number::SIGPWR, Signal::Meaningless("SIGPWR")),
    (Number::SIGXCPU, Signal::Meaningless("SIGXCPU")),
    (Number::SIGIO, Signal::Meaningless("SIGIO")),
    (Number::SIGSTKFLT, Signal::Meaningless("SIGSTKFLT")),
];

/// The signals that have arrived.
#[derive(Debug)]
pub(in crate::control) struct Signals(Vec<Caught>);

#[derive(Debug)]
struct Caught {
    answer: Signal,
    stream: Stream,
    /// A timer that was left running may send one a thousand times a second: one answer will do.
    is_answered: bool,
}

impl Signals {
    /// Begins to catch them. Needs a tokio runtime around it.
    pub(in crate::control) fn catch() -> io::Result<Self> {
        let real_time = (SIGRTMIN()..=SIGRTMAX())
            .map(|number| (number, Signal::Meaningless("a real-time signal")));
        let named = ANSWERS.iter().map(|(number, answer)| (*number as i32, *answer));
        let caught = named.chain(real_time).map(|(number, answer)| {
            let stream = signal(SignalKind::from_raw(number))?;
            Ok(Caught { answer, stream, is_answered: false })
        });
        // SIGXFSZ: a file has reached its size limit, which the failed write reports as well. A log
        // line about the signal would raise it again, so the handler stays without its stream.
        // Rust's runtime ignores SIGPIPE.
        drop(signal(SignalKind::from_raw(Number::SIGXFSZ as i32))?);
        caught.collect::<io::Result<Vec<_>>>().map(Self)
    }

    /// The next one.
    pub(in crate::control) async fn next(&mut self) -> Signal {
        poll_fn(|cx| {
            for caught in &mut self.0 {
                while caught.stream.poll_recv(cx).is_ready() {
                    let is_meaningless = matches!(caught.answer, Signal::Meaningless(_));
                    if !is_meaningless || !caught.is_answered {
                        caught.is_answered = true;
                        return Poll::Ready(caught.answer);
                    }
                }
            }
            Poll::Pending
        })
        .await
    }
}
