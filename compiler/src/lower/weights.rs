//! Constant weights in the layouts of the kernels, without the zeros that kernels can leave out.

use super::matmul::{f32s, store_f32};
use super::{Failure, Lowering, Packing};
use autoglm_ir::sparsity::{Pattern, Zeros};
use autoglm_ir::{ConstId, DType, Dim, Tensor, ValueId};
use autoglm_runtime::cpu::pack::{self, ConvWeights, PANEL};
use autoglm_runtime::cpu::scattered::{codes_len, pack_scattered};
use autoglm_runtime::cpu::sparse::{SparseMatrix, pack_sparse_b, pack_sparse_conv};
use autoglm_runtime::program::{self as rt, Sparsity};
use std::borrow::Cow;
use std::ops::Range;

/// Weights of fewer elements are not worth a second operand.
const ELEMENTS_MIN: usize = 2048;

/// A constant weight and the zeros in it.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightZeros {
    /// ONNX node that uses it first.
    pub node: String,
    /// Rows and columns as a matrix.
    pub extents: [usize; 2],
    /// Its zeros.
    pub zeros: Zeros,
    /// How it could be stored without them; none if only densely.
    pub pattern: Option<Sparsity>,
    /// Bytes of it, dense and in that pattern.
    pub bytes: [usize; 2],
}

/// A packed weight.
#[derive(Clone, Copy)]
pub(super) struct Packed {
    values: rt::ValueId,
    codes: Option<rt::ValueId>,
    pub(super) sparsity: Option<Sparsity>,
}

impl Packed {
    /// The arguments of a step that are the weight.
    pub(super) fn args(&self) -> impl Iterator<Item = rt::ValueId> + use<> {
        std::iter::once(self.values).chain(self.codes)
    }
}

/// The second factor [k,n] of a product, or some of its columns.
pub(super) fn product(
    cx: &mut Lowering<'_>,
    v: ValueId,
    columns: Option<Range<usize>>,
) -> Result<Packed, Failure> {
    let Some(id) = cx.graph.constant(v) else { return Err(Failure::Invalid("not a constant".into())) };
    let all = cx.graph.ty(v).shape.last().and_then(Dim::as_usize);
    let columns = columns.or(all.map(|n| 0..n)).ok_or_else(|| Failure::Invalid("no columns".into()))?;
    cx.packed(id, Packing::Columns(columns.clone()), |cx, tensor| {
        let rank = tensor.shape.len();
        let (k, all) = (tensor.shape[rank - 2], tensor.shape[rank - 1]);
        let (whole, n) = (f32s(&tensor.data), columns.len());
        let source = whole.get(columns.start..).unwrap_or_default();
        let found = pattern(cx, source, [1, k, n], all);
        if found == Some(Sparsity::Scattered) {
            return scattered(k, n, |row, column| source[row * all + column]);
        }
        if let Some(sparsity) = found {
            let matrix = SparseMatrix::product(sparsity, k, n);
            return sparse_form(&matrix, |values, codes| {
                pack_sparse_b(source, &matrix, [all, 1], values, codes).map_err(|e| e.to_string())
            });
        }
        let mut packed = vec![0f32; pack::packed_gemm_len(k, n).ok_or_else(|| too_large(tensor))?];
        pack::pack_gemm_b(source, k, n, all, 1, &mut packed).map_err(|e| Failure::Invalid(e.to_string()))?;
        Ok(Form { values: packed, codes: None })
    })
}

/// Matrices [e,k,n], each packed by itself.
pub(super) fn stack(cx: &mut Lowering<'_>, id: ConstId) -> Result<Packed, Failure> {
    cx.packed(id, Packing::Stack, |_, tensor| {
        let &[matrices, k, n] = tensor.shape.as_slice() else {
            return Err(Failure::Invalid(format!("a stack of matrices of rank {}", tensor.shape.len())));
        };
        let each = pack::packed_gemm_len(k, n).ok_or_else(|| too_large(tensor))?;
        let all = each.checked_mul(matrices).ok_or_else(|| too_large(tensor))?;
        let (source, mut packed) = (f32s(&tensor.data), vec![0f32; all]);
        if all > 0 {
            for (matrix, to) in source.chunks_exact(k * n).zip(packed.chunks_exact_mut(each)) {
                pack::pack_gemm_b(matrix, k, n, n, 1, to).map_err(|e| Failure::Invalid(e.to_string()))?;
            }
        }
        Ok(Form { values: packed, codes: None })
    })
}

/// Some elements of a vector.
pub(super) fn part(cx: &mut Lowering<'_>, id: ConstId, columns: Range<usize>) -> Result<Packed, Failure> {
    cx.packed(id, Packing::Columns(columns.clone()), |_, vector| {
        let values = f32s(&vector.data).get(columns).unwrap_or_default().to_vec();
        Ok(Form { values, codes: None })
    })
}

/// The weight [m,c/groups,kh,kw] of a channels-last convolution; `winograd` if it is to be transformed for that algorithm,
/// which zeros in rows prevent: in a transformed weight there are none.
pub(super) fn convolution(
    cx: &mut Lowering<'_>,
    id: ConstId,
    groups: usize,
    winograd: bool,
) -> Result<Packed, Failure> {
    let packing = if winograd { Packing::Winograd } else { Packing::Conv(groups) };
    cx.packed(id, packing, |cx, weight| {
        let &[m, per_group, kh, kw] = weight.shape.as_slice() else {
            return Err(Failure::Invalid(format!("a weight of rank {}", weight.shape.len())));
        };
        let source = f32s(&weight.data);
        let shape = ConvWeights { m, c: per_group, kernel: [kh, kw], groups };
        let pattern = if groups == 1 { pattern_of_taps(cx, &source, &shape) } else { None };
        if pattern == Some(Sparsity::Scattered) && !winograd {
            let taps = kh * kw;
            return scattered(taps * per_group, m, |row, column| {
                source[(column * per_group + row % per_group) * taps + row / per_group]
            });
        }
        if let Some(sparsity) = pattern.filter(|sparsity| *sparsity != Sparsity::Scattered) {
            let matrix = SparseMatrix::conv(sparsity, &shape).map_err(|e| Failure::Invalid(e.to_string()))?;
            return sparse_form(&matrix, |values, codes| {
                pack_sparse_conv(&source, &shape, sparsity, values, codes).map_err(|e| e.to_string())
            });
        }
        let len =
            if winograd { pack::packed_winograd_len(per_group, m) } else { pack::packed_conv_len(&shape) };
        let mut values = vec![0f32; len.ok_or_else(|| too_large(weight))?];
        let packed = if winograd {
            pack::pack_winograd(&source, per_group, m, &mut values)
        } else {
            pack::pack_conv(&source, &shape, &mut values)
        };
        packed.map_err(|e| Failure::Invalid(e.to_string()))?;
        Ok(Form { values, codes: None })
    })
}

/// The recurrent weights [gates*n,n] of a layer, each gate's transposed.
pub(super) fn gates(cx: &mut Lowering<'_>, v: ValueId, gates: usize) -> Result<rt::ValueId, Failure> {
    let Some(id) = cx.graph.constant(v) else { return Err(Failure::Invalid("not a constant".into())) };
    let packed = cx.packed(id, Packing::Gates(gates), |_, weight| {
        let n = weight.shape.last().copied().unwrap_or(0);
        let each = pack::packed_gemm_len(n, n).ok_or_else(|| too_large(weight))?;
        let all = each.checked_mul(gates).ok_or_else(|| too_large(weight))?;
        let (source, mut values) = (f32s(&weight.data), vec![0f32; all]);
        let pairs = source.chunks_exact((n * n).max(1)).zip(values.chunks_exact_mut(each.max(1)));
        for (from, to) in pairs {
            pack::pack_gemm_b(from, n, n, 1, n, to).map_err(|e| Failure::Invalid(e.to_string()))?;
        }
        Ok(Form { values, codes: None })
    })?;
    Ok(packed.values)
}

/// What is stored of a weight.
pub(super) struct Form {
    values: Vec<f32>,
    codes: Option<(Vec<u32>, Sparsity)>,
}

impl Form {
    /// Stores it in the weights section.
    pub(super) fn store(self, cx: &mut Lowering<'_>) -> Result<Packed, Failure> {
        let values = store_f32(cx, &self.values)?;
        let Some((codes, sparsity)) = self.codes else {
            return Ok(Packed { values, codes: None, sparsity: None });
        };
        let bytes: Vec<u8> = codes.iter().flat_map(|code| code.to_le_bytes()).collect();
        let codes = cx.store(DType::U32, &[codes.len().into()], &bytes)?;
        Ok(Packed { values, codes: Some(codes), sparsity: Some(sparsity) })
    }
}

fn sparse_form(
    matrix: &SparseMatrix,
    pack: impl FnOnce(&mut [f32], &mut [u32]) -> Result<(), String>,
) -> Result<Form, Failure> {
    let length = |len: Result<usize, _>| {
        len.map_err(|e: autoglm_runtime::cpu::kernels::KernelError| Failure::Unsupported(e.to_string()))
    };
    let mut values = vec![0f32; length(matrix.values_len())?];
    let mut codes = vec![0u32; length(matrix.codes_len())?];
    pack(&mut values, &mut codes)?;
    Ok(Form { values, codes: Some((codes, matrix.sparsity)) })
}

/// A matrix without its zeros, wherever they are.
fn scattered(rows: usize, n: usize, at: impl Fn(usize, usize) -> f32) -> Result<Form, Failure> {
    let packed = pack_scattered(rows, n, at);
    let (values, codes) = packed.map_err(|e| Failure::Unsupported(e.to_string()))?;
    Ok(Form { values, codes: Some((codes, Sparsity::Scattered)) })
}

/// The pattern in which a row-major matrix of `taps` runs of `depth` rows of `n` columns is stored, if it is worth it; rows
/// are `stride` elements apart. What was found is noted for the report.
fn pattern(
    cx: &mut Lowering<'_>,
    source: &[f32],
    [taps, depth, n]: [usize; 3],
    stride: usize,
) -> Option<Sparsity> {
    let elements = taps.checked_mul(depth)?.checked_mul(n)?;
    if elements < ELEMENTS_MIN {
        return None;
    }
    let dense = if stride == n {
        Cow::Borrowed(source)
    } else {
        source.chunks(stride).flat_map(|row| row.iter().take(n).copied()).collect()
    };
    let zeros = Zeros::of(&dense, n, depth);
    let size = |v: usize| u8::try_from(v).unwrap_or(u8::MAX);
    let pattern = zeros.pattern().map(|pattern| match pattern {
        Pattern::Panels(kept, of) => Sparsity::Panels { kept: size(kept), of: size(of) },
        Pattern::Columns => Sparsity::Columns,
        Pattern::Scattered => Sparsity::Scattered,
    });
    let nonzero = (zeros.density * elements as f64).round() as usize;
    let dense = elements * 4;
    let stored = pattern.and_then(|sparsity| {
        let matrix = SparseMatrix { sparsity, count: 1, taps, depth, n };
        let lens = match sparsity {
            Sparsity::Scattered => (nonzero.checked_add(PANEL), codes_len(taps * depth, n)),
            _ => (matrix.values_len().ok(), matrix.codes_len()),
        };
        Some(4 * lens.0?.checked_add(lens.1.ok()?)?)
    });
    cx.zeros.push(WeightZeros {
        node: cx.loc.clone(),
        extents: [taps * depth, n],
        zeros,
        pattern,
        bytes: [dense, stored.unwrap_or(dense)],
    });
    pattern.filter(|_| cx.options.sparse)
}

/// The same for a convolution without groups.
fn pattern_of_taps(cx: &mut Lowering<'_>, source: &[f32], shape: &ConvWeights) -> Option<Sparsity> {
    let taps = shape.kernel[0] * shape.kernel[1];
    let (m, c) = (shape.m, shape.c);
    if source.len() != taps * c * m {
        return None;
    }
    // Rows run over taps, then channels.
    let at = |row: usize, column: usize| source[(column * c + row % c) * taps + row / c];
    let rows: Vec<f32> = (0..taps * c).flat_map(|row| (0..m).map(move |column| at(row, column))).collect();
    pattern(cx, &rows, [taps, c, m], m)
}

fn too_large(weight: &Tensor) -> Failure {
    Failure::Unsupported(format!("a weight of {:?} overflows", weight.shape))
}
