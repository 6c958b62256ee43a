//! Statistics over durations, and numbers as people read them.

use serde::Serialize;
use std::time::Duration;

/// Order statistics of a set of durations, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Number of samples.
    pub n: usize,
    /// Smallest.
    pub min: f64,
    /// 50th percentile.
    pub median: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Largest.
    pub max: f64,
    /// Standard deviation of the sample (0 for one sample).
    pub std: f64,
}

impl Stats {
    /// Statistics of `samples` in nanoseconds; `None` if there are none.
    pub fn of(samples: &[u64]) -> Option<Stats> {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        let (first, last) = (*sorted.first()?, *sorted.last()?);
        let n = sorted.len();
        let mean = sorted.iter().map(|&x| x as f64).sum::<f64>() / n as f64;
        let squares: f64 = sorted.iter().map(|&x| (x as f64 - mean).powi(2)).sum();
        Some(Stats {
            n,
            min: first as f64,
            median: percentile(&sorted, 50.0),
            p90: percentile(&sorted, 90.0),
            p99: percentile(&sorted, 99.0),
            mean,
            max: last as f64,
            std: if n > 1 { (squares / (n - 1) as f64).sqrt() } else { 0.0 },
        })
    }
}

/// The `p`-th percentile of ascending samples, linear between neighbours (the default of numpy); 0 if there are none.
pub fn percentile(sorted: &[u64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = (p.clamp(0.0, 100.0) / 100.0) * last as f64;
    let low = at.floor() as usize;
    let high = (low + 1).min(last);
    let fraction = at - low as f64;
    sorted[low] as f64 * (1.0 - fraction) + sorted[high] as f64 * fraction
}

/// A duration with four significant digits or so: `812 ns`, `6.132 ms`, `12.40 s`.
pub fn format_ns(ns: f64) -> String {
    let (value, unit) = match ns {
        x if x < 1e3 => return format!("{x:.0} ns"),
        x if x < 1e6 => (x / 1e3, "us"),
        x if x < 1e9 => (x / 1e6, "ms"),
        x => (x / 1e9, "s"),
    };
    let digits = if value < 10.0 { 3 } else { 2 };
    format!("{value:.digits$} {unit}")
}

/// [`format_ns`] of a [`Duration`].
pub fn format_duration(duration: Duration) -> String {
    format_ns(duration.as_secs_f64() * 1e9)
}

/// A number of bytes with a binary unit: `512 B`, `3.06 MiB`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.2} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_statistics() {
        let s = Stats::of(&[4, 1, 3, 2]).unwrap();
        assert_eq!((s.n, s.min, s.median, s.mean, s.max), (4, 1.0, 2.5, 2.5, 4.0));
        // numpy: percentile([1,2,3,4], 90) = 3.7, 99 = 3.97, std(ddof=1) = 1.2909944...
        assert!((s.p90 - 3.7).abs() < 1e-12 && (s.p99 - 3.97).abs() < 1e-12);
        assert!((s.std - 1.290_994_448_735_805_6).abs() < 1e-12);
        let one = Stats::of(&[7]).unwrap();
        assert_eq!((one.median, one.p99, one.std), (7.0, 7.0, 0.0));
        assert_eq!(Stats::of(&[]), None);
        assert_eq!(percentile(&[], 50.0), 0.0);
    }

    #[test]
    fn readable_numbers() {
        for (ns, text) in [
            (0.0, "0 ns"),
            (812.0, "812 ns"),
            (1500.0, "1.500 us"),
            (6_132_000.0, "6.132 ms"),
            (61_320_000.0, "61.32 ms"),
            (12.4e9, "12.40 s"),
        ] {
            assert_eq!(format_ns(ns), text);
        }
        assert_eq!(format_duration(Duration::from_millis(2)), "2.000 ms");
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (3_211_264, "3.06 MiB"), (1 << 40, "1.00 TiB")]
        {
            assert_eq!(format_bytes(bytes), text);
        }
        assert_eq!(format_bytes(u64::MAX), "16384.00 PiB");
    }
}
