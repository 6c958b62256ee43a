//! Where the workers of one call wait for each other.

use crate::threads::pause;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A point that workers pass together, again and again. It waits actively, as the threads of a pool do between steps.
#[derive(Debug, Default)]
pub struct Barrier {
    /// Workers that wait in the present round.
    arrived: AtomicUsize,
    round: AtomicUsize,
    /// Workers that will not come again in this call.
    left: AtomicUsize,
}

impl Barrier {
    /// Takes part in a call that `count` workers run at once. Each of them joins before it does anything that can fail, and
    /// leaves when what this gives is dropped.
    pub fn join(&self, count: usize) -> Party<'_> {
        Party { barrier: self, count }
    }
}

/// A worker's part in a call.
#[derive(Debug)]
pub struct Party<'a> {
    barrier: &'a Barrier,
    count: usize,
}

impl Party<'_> {
    /// How many take part.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Waits until all others wait too; what they wrote before is visible then. False if one of them has left, because it failed
    /// or came to its end: who goes on alone would wait for ever.
    #[must_use]
    pub fn wait(&self) -> bool {
        let Barrier { arrived, round, left } = self.barrier;
        // It cannot change before this worker has arrived.
        let now = round.load(Ordering::Acquire);
        if arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.count {
            arrived.store(0, Ordering::Relaxed);
            round.store(now.wrapping_add(1), Ordering::Release);
            return true;
        }
        let mut spins = 0;
        loop {
            if round.load(Ordering::Acquire) != now {
                return true;
            }
            if left.load(Ordering::Acquire) > 0 {
                // Who ends a round may leave before others have seen its end.
                return round.load(Ordering::Acquire) != now;
            }
            pause(&mut spins);
        }
    }
}

impl Drop for Party<'_> {
    /// The last one to leave makes the barrier ready for the next call.
    fn drop(&mut self) {
        let Barrier { arrived, left, .. } = self.barrier;
        if left.fetch_add(1, Ordering::AcqRel) + 1 == self.count {
            arrived.store(0, Ordering::Relaxed);
            left.store(0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::thread;

    /// Runs `f` on three threads at once and gives what they answer.
    fn at_once(barrier: &Barrier, f: impl Fn(usize, &Party<'_>) -> bool + Sync) -> Vec<bool> {
        let run = |i| {
            let party = barrier.join(3);
            f(i, &party)
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|i| scope.spawn(move || run(i))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        })
    }

    #[test]
    fn nobody_passes_before_all_have_come() {
        let (barrier, sum) = (Barrier::default(), AtomicU64::new(0));
        for call in 0..20_u64 {
            let passed = at_once(&barrier, |_, party| {
                (0..50).all(|round| {
                    sum.fetch_add(1, Ordering::Relaxed);
                    let all = party.wait() && sum.load(Ordering::Relaxed) == 3 * (50 * call + round + 1);
                    all && party.wait()
                })
            });
            assert_eq!(passed, [true; 3]);
        }
    }

    #[test]
    fn who_leaves_early_holds_nobody_up() {
        let barrier = Barrier::default();
        for _ in 0..20 {
            let passed = at_once(&barrier, |i, party| party.wait() && i != 1 && party.wait());
            assert_eq!(passed, [false; 3]);
            let passed = at_once(&barrier, |_, party| party.wait() && party.wait());
            assert_eq!(passed, [true; 3]);
        }
    }
}
