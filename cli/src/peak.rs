//! What the machine can do at most: a measured arithmetic rate, and the memory that this process has used.

use autoglm_runtime::cpu::Isa;
use autoglm_runtime::cpu::kernels::probe::multiply_adds;
use std::time::{Duration, Instant};

/// Rounds of one measurement, a millisecond or so.
const PASSES: u32 = 100_000;

/// The f32 rate that `threads` threads together reach with instructions of `isa` that stay in registers, in
/// floating-point operations a second; `None` if the machine lacks them. Each thread counts with its best measurement
/// within `budget`.
pub fn peak_flops(isa: Isa, threads: usize, budget: Duration) -> Option<f64> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(move || best_rate(isa, budget))).collect();
        workers.into_iter().map(|worker| worker.join().ok().flatten()).sum()
    })
}

fn best_rate(isa: Isa, budget: Duration) -> Option<f64> {
    let begin = Instant::now();
    let mut best = 0.0_f64;
    loop {
        let start = Instant::now();
        let done = multiply_adds(isa, PASSES).ok()?;
        best = best.max(done as f64 / start.elapsed().as_secs_f64().max(1e-9));
        if begin.elapsed() >= budget {
            return Some(best);
        }
    }
}

/// The largest resident set of this process so far, in KiB; `None` where the system does not tell.
pub fn rss_peak_kb() -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    parse_vm_hwm(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// The `VmHWM` line of a Linux process status.
fn parse_vm_hwm(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_of_the_machine_has_a_plausible_peak() {
        for isa in Isa::ALL {
            let rate = peak_flops(isa, 1, Duration::from_millis(1));
            assert_eq!(rate.is_some(), isa.is_available());
            assert!(rate.is_none_or(|rate| rate > 1e7 && rate < 1e13), "{rate:?}");
        }
    }

    #[test]
    fn status_lines() {
        assert_eq!(parse_vm_hwm("VmPeak:\t 9 kB\nVmHWM:\t   1234 kB\n"), Some(1234));
        assert_eq!(parse_vm_hwm("VmPeak:\t 9 kB\n"), None);
        assert_eq!(parse_vm_hwm("VmHWM:\t x kB\n"), None);
        assert_eq!(rss_peak_kb().is_some(), cfg!(target_os = "linux"));
    }
}
