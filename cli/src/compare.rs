//! How far two tensors are apart.

use crate::tensor::{Array, range, to_f64};
use serde_json::{Value, json};

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Absolute part of `|a - b| <= atol + rtol * |b|`.
    pub atol: f64,
    /// Relative part.
    pub rtol: f64,
    /// Smallest cosine similarity.
    pub min_cosine: f64,
}

/// The comparison of one tensor with its reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Type or shape differ; the numbers below are then 0.
    pub mismatch: Option<String>,
    /// Cosine similarity; 1 when both are zero everywhere.
    pub cosine: f64,
    /// Mean of the squared errors.
    pub mse: f64,
    /// Largest absolute error; infinite when one side is not finite where the other differs.
    pub max_abs: f64,
    /// Largest error relative to the reference, where that is not 0.
    pub max_rel: f64,
    /// Index of the largest absolute error.
    pub worst_index: Vec<usize>,
    /// Elements outside the tolerance.
    pub outside: usize,
    /// The smallest `atol` that would pass with this `rtol`.
    pub needed_atol: f64,
    /// Everything is within the tolerance.
    pub pass: bool,
}

/// Compares `ours` with `reference`. Integers and bools must be equal. Two NaNs are equal, as are two infinities of
/// one sign.
pub fn compare(ours: &Array, reference: &Array, tolerance: &Tolerance) -> Comparison {
    let mut result = Comparison {
        mismatch: None,
        cosine: 1.0,
        mse: 0.0,
        max_abs: 0.0,
        max_rel: 0.0,
        worst_index: Vec::new(),
        outside: 0,
        needed_atol: 0.0,
        pass: true,
    };
    if ours.elem != reference.elem || ours.dims != reference.dims {
        result.mismatch = Some(format!("{} instead of {}", ours.describe(), reference.describe()));
        result.pass = false;
        return result;
    }
    let exact = range(ours.elem).is_some();
    let tolerance = if exact { Tolerance { atol: 0.0, rtol: 0.0, ..*tolerance } } else { *tolerance };
    let size = ours.elem.size();
    let (mut dot, mut ours_square, mut reference_square, mut squares) = (0.0, 0.0, 0.0, 0.0);
    let mut worst = 0;
    for (i, (a, b)) in to_f64(ours).into_iter().zip(to_f64(reference)).enumerate() {
        // 64-bit integers that differ may be equal as f64, so that the bytes decide.
        let bytes = i * size..(i + 1) * size;
        let equal = ours.bytes[bytes.clone()] == reference.bytes[bytes] || a == b && !exact;
        let error = match (equal || a.is_nan() && b.is_nan(), (a - b).abs()) {
            (true, _) => 0.0,
            (false, error) if error.is_finite() => error.max(f64::from(u8::from(exact))),
            (false, _) => f64::INFINITY,
        };
        result.needed_atol = result.needed_atol.max(error - tolerance.rtol * finite(b).abs());
        if error > tolerance.atol + tolerance.rtol * finite(b).abs() {
            result.outside += 1;
        }
        if error > result.max_abs {
            (result.max_abs, worst) = (error, i);
        }
        if finite(b) != 0.0 {
            result.max_rel = result.max_rel.max(error / b.abs());
        }
        squares += error * error;
        if a.is_finite() && b.is_finite() {
            dot += a * b;
            ours_square += a * a;
            reference_square += b * b;
        }
    }
    let norms = ours_square.sqrt() * reference_square.sqrt();
    result.cosine = match (norms > 0.0, ours_square == reference_square) {
        (true, _) => dot / norms,
        (false, true) => 1.0,
        (false, false) => 0.0,
    };
    result.mse = squares / ours.len().max(1) as f64;
    if result.max_abs > 0.0 {
        result.worst_index = unravel(worst, &ours.dims);
    }
    // The direction of a reference that is 0 everywhere says nothing.
    let directed = !exact && squares > 0.0 && reference_square > 0.0;
    result.pass = result.outside == 0 && (!directed || result.cosine >= tolerance.min_cosine);
    result
}

impl Comparison {
    /// The entry of the report.
    pub fn to_json(&self, name: &str) -> Value {
        json!({
            "name": name,
            "mismatch": self.mismatch,
            "cosine": self.cosine,
            "mse": self.mse,
            "max_abs": self.max_abs,
            "max_rel": self.max_rel,
            "worst_index": self.worst_index,
            "outside": self.outside,
            "would_pass": { "atol": self.needed_atol },
            "pass": self.pass,
        })
    }

    /// One line: why it failed, or how close it is.
    pub fn summary(&self) -> String {
        match &self.mismatch {
            Some(mismatch) => mismatch.clone(),
            None => format!(
                "cosine {:.6}, max |error| {:.3e} at {:?}, {} elements outside",
                self.cosine, self.max_abs, self.worst_index, self.outside
            ),
        }
    }
}

fn finite(x: f64) -> f64 {
    if x.is_finite() { x } else { 0.0 }
}

/// The index along each axis of a flat index.
fn unravel(flat: usize, dims: &[usize]) -> Vec<usize> {
    let mut rest = flat;
    let mut index: Vec<usize> = dims
        .iter()
        .rev()
        .map(|&dim| {
            let at = rest % dim.max(1);
            rest /= dim.max(1);
            at
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use autoglm_runtime::elem::ElemType;

    fn f32s(dims: &[usize], values: &[f32]) -> Array {
        Array::new(ElemType::F32, dims.to_vec(), values.iter().flat_map(|x| x.to_le_bytes()).collect())
            .unwrap()
    }

    const TOLERANCE: Tolerance = Tolerance { atol: 0.5, rtol: 0.0, min_cosine: 0.9 };

    #[test]
    fn known_distances() {
        let c =
            compare(&f32s(&[2, 2], &[1.0, 2.0, 3.0, 5.0]), &f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), &TOLERANCE);
        // numpy: dot = 34, norms = sqrt(39 * 30)
        assert!((c.cosine - 34.0 / (39.0f64 * 30.0).sqrt()).abs() < 1e-12);
        assert_eq!((c.mse, c.max_abs, c.max_rel, c.outside), (0.25, 1.0, 0.25, 1));
        assert_eq!((c.worst_index.as_slice(), c.needed_atol, c.pass), (&[1, 1][..], 1.0, false));
        let wide = Tolerance { rtol: 0.25, ..TOLERANCE };
        assert!(compare(&f32s(&[1], &[5.0]), &f32s(&[1], &[4.0]), &wide).pass);
    }

    #[test]
    fn what_is_not_finite_must_match() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        assert!(compare(&f32s(&[3], &[nan, inf, -inf]), &f32s(&[3], &[nan, inf, -inf]), &TOLERANCE).pass);
        for (a, b) in [(nan, 1.0), (1.0, nan), (inf, 1.0), (inf, -inf), (1.0, inf)] {
            let c = compare(&f32s(&[1], &[a]), &f32s(&[1], &[b]), &TOLERANCE);
            assert!(!c.pass && c.max_abs == f64::INFINITY, "{a} {b}");
        }
    }

    #[test]
    fn integers_are_exact() {
        let i64s = |x: i64| Array::new(ElemType::I64, vec![1], x.to_le_bytes().to_vec()).unwrap();
        assert!(compare(&i64s(7), &i64s(7), &TOLERANCE).pass);
        assert!(!compare(&i64s(7), &i64s(8), &Tolerance { atol: 9.0, ..TOLERANCE }).pass);
        // Equal when rounded to f64.
        assert!(!compare(&i64s((1 << 60) + 1), &i64s(1 << 60), &TOLERANCE).pass);
    }

    #[test]
    fn shapes_and_zeros() {
        let c = compare(&f32s(&[2, 1], &[1.0, 2.0]), &f32s(&[2], &[1.0, 2.0]), &TOLERANCE);
        assert_eq!(c.mismatch.as_deref(), Some("f32[2,1] instead of f32[2]"));
        assert!(!c.pass);
        assert!(compare(&f32s(&[0], &[]), &f32s(&[0], &[]), &TOLERANCE).pass);
        assert!(compare(&f32s(&[1], &[0.0]), &f32s(&[1], &[-0.0]), &TOLERANCE).pass);
        assert_eq!(compare(&f32s(&[1], &[0.1]), &f32s(&[1], &[0.0]), &TOLERANCE).cosine, 0.0);
    }
}
