//! Which cores this process may use, and so how many shards it starts and where they are pinned.
//!
//! Not here: threads. Invariant: a plan has at least one shard, and at most `limits::SHARDS_MAX`.

use std::thread::available_parallelism;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use ringlane_core::limits;

use crate::config::ShardCount;

/// The core of each shard, in the order of the shards; `None` for a shard that is not pinned.
pub(in crate::control) fn plan(shards: ShardCount, pin: bool) -> nix::Result<Vec<Option<usize>>> {
    let cores = affinity()?;
    // The number of these cores, or the CPU quota of the control groups where that is less.
    let share = available_parallelism().map_or(cores.len(), usize::from);
    Ok(place(shards, pin, &cores, share))
}

/// The cores that the scheduler may run this process on, by its cpuset and affinity.
fn affinity() -> nix::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// Gives each shard a core, where that is of use; `share` is the CPU time that the process may use,
/// in cores.
///
/// Shards are left to the scheduler when there are more of them than cores, and when a quota made
/// their number smaller than that of the cores: the cores are then shared with others, and every
/// container of the machine would crowd on the first ones.
fn place(shards: ShardCount, pin: bool, cores: &[usize], share: usize) -> Vec<Option<usize>> {
    let (count, are_ours) = match shards {
        ShardCount::Count(count) => (count, true),
        ShardCount::Auto => (share.min(cores.len()), share >= cores.len()),
    };
    let count = count.clamp(1, limits::SHARDS_MAX);
    if pin && are_ours && count <= cores.len() {
        cores.iter().take(count).copied().map(Some).collect()
    } else {
        vec![None; count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_pinned_where_the_cores_are_ours() {
        let check = |shards, pin, share, expected: &[Option<usize>]| {
            assert_eq!(place(shards, pin, &[2, 3, 6], share), expected);
        };
        check(ShardCount::Auto, true, 3, &[Some(2), Some(3), Some(6)]);
        check(ShardCount::Auto, false, 3, &[None; 3]);
        check(ShardCount::Auto, true, 8, &[Some(2), Some(3), Some(6)]);
        check(ShardCount::Auto, true, 2, &[None; 2]);
        check(ShardCount::Count(2), true, 1, &[Some(2), Some(3)]);
        check(ShardCount::Count(4), true, 3, &[None; 4]);
        check(ShardCount::Count(0), true, 3, &[Some(2)]);
    }

    #[test]
    fn without_a_configured_number_there_is_a_shard_for_each_core_at_most() {
        let cores = affinity().unwrap();
        let shards = plan(ShardCount::Auto, true).unwrap();
        assert!((1..=cores.len()).contains(&shards.len()), "{shards:?} on {cores:?}");
        assert!(shards.iter().flatten().all(|core| cores.contains(core)), "{shards:?}");
    }
}
