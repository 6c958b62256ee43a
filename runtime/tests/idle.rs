//! Idle workers use no processor time. Alone in its process, because it measures the process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use autoglm_runtime::threads::Pool;
use std::time::Duration;

/// Ticks (10 ms) that this process has used.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn idle_workers_sleep() {
    let mut pool = Pool::new(4).unwrap();
    pool.hold();
    pool.run(|_, _| {}).unwrap();
    let busy = ticks();
    std::thread::sleep(Duration::from_millis(300));
    assert!(ticks() - busy <= 3, "even an active pool spins only for a moment");
    pool.run(|_, _| {}).unwrap();
    pool.relax();
    let idle = ticks();
    std::thread::sleep(Duration::from_millis(300));
    assert!(ticks() - idle <= 3);
    pool.run(|_, _| {}).unwrap();
}
