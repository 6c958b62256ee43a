//! The worker pool under stress.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use autoglm_runtime::error::RunError;
use autoglm_runtime::threads::Pool;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

#[test]
fn every_part_runs_once_in_every_call() {
    for workers in [1, 2, 3, 8] {
        let mut pool = Pool::new(workers).unwrap();
        assert_eq!(pool.workers(), workers);
        let counts: Vec<AtomicU64> = (0..workers).map(|_| AtomicU64::new(0)).collect();
        let mut want = vec![0; workers];
        for call in 0..3000 {
            if call % 500 == 0 {
                pool.hold();
            }
            if call % 500 == 250 {
                pool.relax();
            }
            let asked = 1 + call % (workers + 1);
            let used = asked.min(workers);
            pool.run_parts(asked, |part, parts| {
                assert_eq!(parts, used);
                counts[part].fetch_add(1, Ordering::Relaxed);
            })
            .unwrap();
            want[..used].iter_mut().for_each(|n| *n += 1);
            let found: Vec<u64> = counts.iter().map(|n| n.load(Ordering::Relaxed)).collect();
            assert_eq!(found, want, "after call {call}");
        }
    }
}

#[test]
fn results_of_one_call_are_visible_to_the_next() {
    let mut pool = Pool::new(4).unwrap();
    let cells: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(0)).collect();
    pool.hold();
    for round in 0..2000 {
        // Each part reads what its neighbour wrote in the round before.
        let next: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(0)).collect();
        pool.run(|part, parts| {
            let seen = cells[(part + 1) % parts].load(Ordering::Relaxed);
            assert_eq!(seen, round);
            next[part].store(seen + 1, Ordering::Relaxed);
        })
        .unwrap();
        pool.run(|part, _| cells[part].store(next[part].load(Ordering::Relaxed), Ordering::Relaxed)).unwrap();
    }
}

#[test]
fn workers_wake_after_they_slept() {
    let mut pool = Pool::new(3).unwrap();
    let total = AtomicUsize::new(0);
    for round in 0..30 {
        if round % 2 == 0 {
            pool.hold();
        }
        pool.run(|_, _| {
            total.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
        std::thread::sleep(Duration::from_micros(100 * (round % 5)));
        pool.relax();
    }
    assert_eq!(total.into_inner(), 90);
}

#[test]
fn panics_become_errors_and_the_pool_goes_on() {
    let mut pool = Pool::new(3).unwrap();
    for culprit in 0..3 {
        let others = AtomicUsize::new(0);
        let result = pool.run(|part, _| {
            assert!(part != culprit, "part {part} gives up");
            others.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(result, Err(RunError::Panic(format!("part {culprit} gives up"))));
        assert_eq!(others.into_inner(), 2, "all parts end before the call returns");
        pool.run(|_, _| {}).unwrap();
    }
}
