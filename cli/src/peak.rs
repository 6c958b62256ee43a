//! What the machine can do at most: a measured arithmetic rate, and the memory that this process has used.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Accumulators: twelve vectors hide the latency of the arithmetic and leave registers for the factors.
const LANES: usize = 12
    * if cfg!(target_feature = "avx512f") {
        16
    } else if cfg!(target_feature = "avx") {
        8
    } else {
        4
    };
/// Passes over the accumulators in one measurement (some milliseconds).
const PASSES: usize = 500_000;

/// `acc = acc * x + y`, fused only where the compilation target has the instruction: otherwise the fused form is a
/// call to a software routine.
#[inline(always)]
fn multiply_add(acc: f32, x: f32, y: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { acc.mul_add(x, y) } else { acc * x + y }
}

/// One measurement: floating-point operations a second (a multiplication and an addition count as two).
fn measure_once() -> f64 {
    let mut acc = [0.0f32; LANES];
    for (i, a) in acc.iter_mut().enumerate() {
        *a = black_box(i as f32);
    }
    let (x, y) = (black_box(0.999_f32), black_box(0.001_f32));
    let start = Instant::now();
    for _ in 0..PASSES {
        for a in &mut acc {
            *a = multiply_add(*a, x, y);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    black_box(acc);
    (2 * LANES * PASSES) as f64 / seconds.max(1e-9)
}

/// The best f32 rate seen on one core within about `budget`, in floating-point operations a second.
///
/// The loop has the vector width that this program was compiled for, not the widest that the processor has, so it
/// is a lower bound of the hardware's peak.
pub fn portable_flops_per_core(budget: Duration) -> f64 {
    let start = Instant::now();
    let mut best = measure_once();
    while start.elapsed() < budget {
        best = best.max(measure_once());
    }
    best
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
    fn the_rate_is_plausible() {
        let flops = portable_flops_per_core(Duration::from_millis(5));
        assert!(flops > 1e7 && flops < 1e13, "{flops}");
    }

    #[test]
    fn status_lines() {
        assert_eq!(parse_vm_hwm("VmPeak:\t 9 kB\nVmHWM:\t   1234 kB\n"), Some(1234));
        assert_eq!(parse_vm_hwm("VmPeak:\t 9 kB\n"), None);
        assert_eq!(parse_vm_hwm("VmHWM:\t x kB\n"), None);
        assert_eq!(rss_peak_kb().is_some(), cfg!(target_os = "linux"));
    }
}
