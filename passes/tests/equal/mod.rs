//! Whether two graphs with the same inputs give the same outputs, tried on random inputs.

use autoglm_ir::interp::{self, Binding};
use autoglm_ir::{DType, Dim, Graph, OpId, SymbolSource, Tensor};

/// Runs of each graph.
const RUNS: usize = 6;
/// Values of symbols to try for them; guards may refuse most.
const ROUNDS_MAX: usize = 1000;

/// A deterministic sequence of numbers (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Fails unless both graphs refuse the same inputs and give equal outputs for all others. Where `exact`, the inputs have
/// signed zeros, infinities, NaN and numbers that round, and outputs are equal bit for bit; else only quarters, and
/// outputs are equal to a few units in the last place of the largest element.
pub(crate) fn assert_equal(before: &Graph, after: &Graph, exact: bool, at: &str) {
    let names = |g: &Graph| g.outputs.iter().map(|o| o.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(before), names(after), "{at}: outputs");
    let types = |g: &Graph| g.outputs.iter().map(|o| g.ty(o.value).clone()).collect::<Vec<_>>();
    assert_eq!(types(before), types(after), "{at}: types of the outputs");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut runs = 0;
    for round in 0..ROUNDS_MAX {
        if runs == RUNS {
            break;
        }
        let Some(inputs) = inputs(before, round, exact && round % 2 == 1, &mut random) else { continue };
        let want = interp::run(before, &inputs);
        let got = interp::run(after, &inputs);
        match (want, got) {
            (Ok(want), Ok(got)) => {
                runs += 1;
                for (i, (want, got)) in want.iter().zip(&got).enumerate() {
                    assert!(
                        same(want, got, exact),
                        "{at}: output {i} of {inputs:?}\n{want:?}\nbecame\n{got:?}"
                    );
                }
            }
            // An operator that was recovered refuses what a part of it did, under its own name.
            (Err(want), Err(got)) => {
                let by_operator = [want.op, got.op].map(|op| OpId::of(op).is_some());
                assert!(by_operator == [true; 2] || want.op == got.op, "{at}: {want} became {got}");
                assert_eq!(want.message, got.message, "{at}: refuses otherwise");
                runs += usize::from(by_operator[0]);
            }
            // A node that no output needs may be gone, and with it what it refuses. Guards stay.
            (Err(want), Ok(_)) => {
                assert!(OpId::of(want.op).is_some(), "{at}: no longer refuses {want}");
                runs += 1;
            }
            (Ok(_), Err(got)) => panic!("{at}: fails now: {got}"),
        }
    }
    assert!(runs > 0, "{at}: no input ran");
}

/// Equal bit for bit where `exact`, or nearly; all NaN are one.
fn same(a: &Tensor, b: &Tensor, exact: bool) -> bool {
    if (a.dtype, &a.shape) != (b.dtype, &b.shape) {
        return false;
    }
    if !a.dtype.is_float() {
        return a.data == b.data;
    }
    let (x, y) = (a.to_f64(), b.to_f64());
    let largest = x.iter().filter(|v| v.is_finite()).fold(1.0f64, |m, v| m.max(v.abs()));
    let unit = match a.dtype {
        DType::F64 => f64::EPSILON,
        DType::F32 => f64::from(f32::EPSILON),
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        _ => 2f64.powi(-2),
    };
    let near = |x: f64, y: f64| !exact && (x - y).abs() <= 16.0 * unit * largest;
    x.into_iter().zip(y).all(|(x, y)| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan() || near(x, y))
}

/// Inputs for values of the symbols; none where an extent would be negative or large.
fn inputs(graph: &Graph, round: usize, special: bool, random: &mut Random) -> Option<Vec<Tensor>> {
    let mut symbols = Binding::new();
    for (name, symbol) in &graph.symbols {
        let small = match round {
            0 | 1 => 1,
            2 | 3 => 2 + random.below(3) as i64,
            4 | 5 => 4,
            6 => 0,
            _ => random.below(7) as i64,
        };
        symbols.insert(name.clone(), small.clamp(symbol.min, symbol.max));
    }
    let value = |d: &Dim| d.eval(&|s| symbols.get(s).copied());
    let mut inputs = Vec::with_capacity(graph.inputs.len());
    for (i, v) in graph.inputs.iter().enumerate() {
        let ty = graph.ty(*v);
        let shape: Option<Vec<usize>> =
            ty.shape.iter().map(|d| usize::try_from(value(d)?).ok().filter(|n| *n <= 1 << 16)).collect();
        let shape = shape?;
        let n = shape.iter().product::<usize>();
        if n > 1 << 20 {
            return None;
        }
        if ty.dtype.is_float() {
            let elements = (0..n).map(|_| float(special, random)).collect();
            inputs.push(Tensor::floats(ty.dtype, shape, elements));
            continue;
        }
        let mut elements: Vec<i128> = (0..n).map(|_| int(ty.dtype, special, random)).collect();
        for (name, symbol) in &graph.symbols {
            if let SymbolSource::InputElem { input, index } = symbol.source
                && input == i
            {
                *elements.get_mut(index)? = symbols[name].into();
            }
        }
        inputs.push(Tensor::ints(ty.dtype, shape, elements));
    }
    Some(inputs)
}

/// Quarters, whose sums of products are exact, or what breaks identities.
fn float(special: bool, random: &mut Random) -> f64 {
    const SPECIAL: [f64; 8] =
        [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 3.0e38, 1.0e-45, -1.000_000_1];
    match special && random.below(3) == 0 {
        true => SPECIAL[random.below(8) as usize],
        false if special => random.below(2000) as f64 / 333.0 - 3.0,
        false => random.below(33) as f64 / 4.0 - 4.0,
    }
}

/// Indices that are in range for every extent, or any integer at all.
fn int(dtype: DType, special: bool, random: &mut Random) -> i128 {
    let (lo, hi) = dtype.int_range().unwrap_or((0, 1));
    match special && random.below(3) == 0 {
        true => [lo, hi, 0, 1][random.below(4) as usize],
        false => i128::from(random.below(2)).clamp(lo, hi),
    }
}
