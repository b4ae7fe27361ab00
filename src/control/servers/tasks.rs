//! The long-running tasks of the control thread, each under a key by which it can be stopped.
//!
//! Not here: what they do. Invariants: a key has at most one task; dropping the set ends all of
//! them.

use std::collections::HashMap;

use ringlane_core::ids::{BackendId, ServerId};
use tokio::task::{AbortHandle, JoinSet};

/// What a task is for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(in crate::control) enum Task {
    /// Checks a server.
    Check(ServerId),
    /// Raises the weights of a backend's warming servers.
    Warming(BackendId),
    /// Resolves a DNS name; the id is that of the first server with an address from it.
    Name(ServerId),
    /// Ejects outliers.
    Outliers,
    /// Measures rates.
    Rates,
    /// Finds out why connects are impossible.
    Alarms,
    /// Delivers what mailboxes had no room for.
    Delivery,
}

/// The tasks that run.
#[derive(Debug, Default)]
pub(in crate::control) struct Tasks {
    set: JoinSet<()>,
    handles: HashMap<Task, AbortHandle>,
}

impl Tasks {
    /// Starts a task, in place of the one with the same key. Needs a tokio runtime around it.
    pub(in crate::control) fn start(
        &mut self,
        key: Task,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        self.stop(key);
        // Results of tasks that have ended would pile up otherwise.
        while self.set.try_join_next().is_some() {}
        self.handles.insert(key, self.set.spawn(work));
    }

    /// Stops a task at its next wait, if it runs.
    pub(in crate::control) fn stop(&mut self, key: Task) {
        if let Some(handle) = self.handles.remove(&key) {
            handle.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::runtime::Builder;
    use tokio::sync::mpsc::{self, error::TryRecvError};

    use super::*;

    #[test]
    fn a_task_ends_when_another_one_takes_its_key_when_stopped_and_with_the_set() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut tasks = Tasks::default();
            let mut alive = Vec::new();
            for key in [Task::Rates, Task::Rates, Task::Check(ServerId(1)), Task::Alarms] {
                let (held, watched) = mpsc::channel::<()>(1);
                alive.push(watched);
                tasks.start(key, async move {
                    let _held = held;
                    pending().await
                });
            }
            assert_eq!(alive[0].recv().await, None, "another one has its key");
            tasks.stop(Task::Check(ServerId(1)));
            assert_eq!(alive[2].recv().await, None, "stopped");
            for index in [1, 3] {
                assert_eq!(alive[index].try_recv(), Err(TryRecvError::Empty), "{index} goes on");
            }
            drop(tasks);
            for index in [1, 3] {
                assert_eq!(alive[index].recv().await, None, "the set is gone");
            }
        });
    }
}
