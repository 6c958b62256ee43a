//! The table of kernels and its resolution for an instruction set.
//!
//! Names are `<element>_<kernel>[_<rows>x<columns>]__<isa>`.

use super::KernelError;
use super::cell::{CellRow, CurveRow, cell_row, curve_row};
use super::norm::{NormRow, norm_row};
use super::panel::{TurnedPanel, turned_panel};
use super::pool::{PoolPixel, pool_pixel};
use super::scattered::{ScatteredRows, ScatteredTile, expand_rows, scattered_tile};
use super::scores::{DotTile, ScoreRow, dot_tile, score_row};
use super::simd::{Scalar, Simd};
use super::softmax::{SoftmaxRow, softmax_row};
use super::sparse_tile::{SparseTile, columns_tile, panels_tile};
use super::tile::{DepthwiseTile, GemmTile, depthwise_tile, gemm_tile};
use super::winograd_tile::{WinogradInput, WinogradOutput, winograd_input, winograd_output};
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512};
use crate::cpu::Isa;

/// A kernel of some kind. Functions that take a tile of several rows come as one function a row count, least first.
#[derive(Clone, Copy)]
pub enum KernelFn {
    /// Indirect GEMM tiles.
    Gemm(GemmKernel),
    /// GEMM tiles whose B stores some rows of every group, the same for all columns of a panel.
    SparsePanels(TileKernel<SparseTile>),
    /// GEMM tiles whose B stores 2 of every 4 rows, others for each column.
    SparseColumns(TileKernel<SparseTile>),
    /// Depthwise convolution tiles.
    Depthwise(&'static [unsafe fn(&DepthwiseTile)]),
    /// One output pixel of a pooling.
    Pool(unsafe fn(&PoolPixel)),
    /// One row of a softmax.
    Softmax(unsafe fn(&SoftmaxRow)),
    /// One row of a normalisation.
    Norm(unsafe fn(&NormRow)),
    /// Products of few rows with many.
    Dot(unsafe fn(&DotTile)),
    /// One row of exponentials of scores.
    Score(unsafe fn(&ScoreRow)),
    /// Packing of a panel by transposing it.
    Turn(unsafe fn(&TurnedPanel)),
    /// Expansion of rows with zeros anywhere.
    Expand(unsafe fn(&ScatteredRows)),
    /// GEMM tiles of few rows whose B has zeros anywhere.
    Scattered(&'static [unsafe fn(&ScatteredTile)]),
    /// Winograd's transform of a tile of pixels.
    WinogradInput(unsafe fn(&WinogradInput)),
    /// The transform of the sums back to pixels.
    WinogradOutput(unsafe fn(&WinogradOutput)),
    /// A function applied to elements in place.
    Curve(unsafe fn(&CurveRow)),
    /// A row of a recurrent layer at one step.
    Cell(unsafe fn(&CellRow<'_>)),
}

/// Tiles of up to `tiles.len()` rows.
pub struct TileKernel<T: 'static> {
    /// Columns of a tile; divides the packed panel's width.
    pub cols: usize,
    /// The function for `i + 1` rows is `tiles[i]`.
    pub tiles: &'static [unsafe fn(&T)],
}

impl<T> Clone for TileKernel<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for TileKernel<T> {}

/// Indirect GEMM tiles.
pub type GemmKernel = TileKernel<GemmTile>;

/// The kernel with the most rows a tile, and that with the fewest.
fn highest_and_lowest<T>(kernels: impl Iterator<Item = TileKernel<T>> + Clone) -> Option<[TileKernel<T>; 2]> {
    let highest = kernels.clone().max_by_key(|k| k.tiles.len())?;
    Some([highest, kernels.min_by_key(|k| k.tiles.len())?])
}

/// One kernel for one instruction set.
pub struct KernelRow {
    /// Its name.
    pub name: &'static str,
    /// The instruction set that its functions need.
    pub isa: Isa,
    /// Its functions.
    pub function: KernelFn,
}

/// A body instantiated for an instruction set, as a function with its target features.
macro_rules! instance {
    (Scalar, $($rest:tt)*) => { instance!(@ [] $($rest)*) };
    (Avx2, $($rest:tt)*) => { instance!(@ [#[target_feature(enable = "avx2,fma")]] $($rest)*) };
    (Avx512, $($rest:tt)*) => { instance!(@ [#[target_feature(enable = "avx512f,avx2,fma")]] $($rest)*) };
    (@ [$($attr:tt)*] $args:ty, $body:expr) => {{
        $($attr)*
        unsafe fn instance(args: &$args) {
            // SAFETY: the body's contract is this function's.
            unsafe { $body(args) }
        }
        instance as unsafe fn(&$args)
    }};
}

/// A row of GEMM tiles: name, instruction set, kind, argument type, body, row counts of its tiles, vectors a tile is wide.
macro_rules! tiles {
    ($name:literal, $isa:ident, $kind:ident, $args:ty, $body:ident, [$($mr:literal)*] x $nv:literal) => {
        KernelRow {
            name: $name,
            isa: Isa::$isa,
            function: KernelFn::$kind(TileKernel {
                cols: $nv * <$isa as Simd>::LANES,
                tiles: &[$(instance!($isa, $args, $body::<$isa, $mr, $nv>)),*],
            }),
        }
    };
}

/// A dense GEMM row.
macro_rules! gemm {
    ($name:literal, $isa:ident, $($size:tt)*) => {
        tiles!($name, $isa, Gemm, GemmTile, gemm_tile, $($size)*)
    };
}

/// A GEMM row with a sparse B whose panels share a pattern.
macro_rules! panels {
    ($name:literal, $isa:ident, $($size:tt)*) => {
        tiles!($name, $isa, SparsePanels, SparseTile, panels_tile, $($size)*)
    };
}

/// A GEMM row with a sparse B of which every column has a pattern.
macro_rules! columns {
    ($name:literal, $isa:ident, $($size:tt)*) => {
        tiles!($name, $isa, SparseColumns, SparseTile, columns_tile, $($size)*)
    };
}

/// A depthwise row: name, instruction set, row counts of its tiles.
macro_rules! depthwise {
    ($name:literal, $isa:ident, [$($mr:literal)*]) => {
        KernelRow {
            name: $name,
            isa: Isa::$isa,
            function: KernelFn::Depthwise(&[
                $(instance!($isa, DepthwiseTile, depthwise_tile::<$isa, $mr>)),*
            ]),
        }
    };
}

/// A row of tiles with a B that has zeros anywhere: name, instruction set, row counts, vectors of a panel.
macro_rules! scattered {
    ($name:literal, $isa:ident, [$($mr:literal)*] x $nv:literal) => {
        KernelRow {
            name: $name,
            isa: Isa::$isa,
            function: KernelFn::Scattered(&[
                $(instance!($isa, ScatteredTile, scattered_tile::<$isa, $mr, $nv>)),*
            ]),
        }
    };
}

/// Any other row: name, instruction set, kind, argument type, body.
macro_rules! single {
    ($name:literal, $isa:ident, $kind:ident, $args:ty, $body:ident) => {
        KernelRow {
            name: $name,
            isa: Isa::$isa,
            function: KernelFn::$kind(instance!($isa, $args, $body::<$isa>)),
        }
    };
}

/// A row whose body is plain loops: name, instruction set, kind, argument type, body.
macro_rules! looped {
    ($name:literal, $isa:ident, $kind:ident, $args:ty, $body:expr) => {
        KernelRow { name: $name, isa: Isa::$isa, function: KernelFn::$kind(instance!($isa, $args, $body)) }
    };
}

/// All kernels compiled in. Where an instruction set has several rows of one kind of GEMM, the one with fewer rows a tile
/// serves matrices that are not higher than it.
pub static KERNELS: &[KernelRow] = &[
    gemm!("f32_gemm_4x8__scalar", Scalar, [1 2 3 4] x 1),
    panels!("f32_sparse_panels_4x8__scalar", Scalar, [1 2 3 4] x 1),
    columns!("f32_sparse_columns_4x8__scalar", Scalar, [1 2 3 4] x 1),
    depthwise!("f32_depthwise_4x8__scalar", Scalar, [1 2 3 4]),
    single!("f32_pool__scalar", Scalar, Pool, PoolPixel, pool_pixel),
    single!("f32_softmax__scalar", Scalar, Softmax, SoftmaxRow, softmax_row),
    single!("f32_norm__scalar", Scalar, Norm, NormRow, norm_row),
    single!("f32_dot__scalar", Scalar, Dot, DotTile, dot_tile),
    single!("f32_score__scalar", Scalar, Score, ScoreRow, score_row),
    single!("f32_turn__scalar", Scalar, Turn, TurnedPanel, turned_panel),
    scattered!("f32_scattered_2x32__scalar", Scalar, [1 2] x 4),
    looped!("f32_expand__scalar", Scalar, Expand, ScatteredRows, expand_rows::<Scalar, 4>),
    single!("f32_winograd_input__scalar", Scalar, WinogradInput, WinogradInput, winograd_input),
    single!("f32_winograd_output__scalar", Scalar, WinogradOutput, WinogradOutput, winograd_output),
    looped!("f32_curve__scalar", Scalar, Curve, CurveRow, curve_row),
    looped!("f32_cell__scalar", Scalar, Cell, CellRow<'_>, cell_row),
    #[cfg(target_arch = "x86_64")]
    gemm!("f32_gemm_6x16__avx2", Avx2, [1 2 3 4 5 6] x 2),
    #[cfg(target_arch = "x86_64")]
    gemm!("f32_gemm_3x32__avx2", Avx2, [1 2 3] x 4),
    #[cfg(target_arch = "x86_64")]
    panels!("f32_sparse_panels_6x16__avx2", Avx2, [1 2 3 4 5 6] x 2),
    #[cfg(target_arch = "x86_64")]
    panels!("f32_sparse_panels_3x32__avx2", Avx2, [1 2 3] x 4),
    #[cfg(target_arch = "x86_64")]
    columns!("f32_sparse_columns_8x8__avx2", Avx2, [1 2 3 4 5 6 7 8] x 1),
    #[cfg(target_arch = "x86_64")]
    columns!("f32_sparse_columns_2x32__avx2", Avx2, [1 2] x 4),
    #[cfg(target_arch = "x86_64")]
    depthwise!("f32_depthwise_8x8__avx2", Avx2, [1 2 3 4 5 6 7 8]),
    #[cfg(target_arch = "x86_64")]
    single!("f32_pool__avx2", Avx2, Pool, PoolPixel, pool_pixel),
    #[cfg(target_arch = "x86_64")]
    single!("f32_softmax__avx2", Avx2, Softmax, SoftmaxRow, softmax_row),
    #[cfg(target_arch = "x86_64")]
    single!("f32_norm__avx2", Avx2, Norm, NormRow, norm_row),
    #[cfg(target_arch = "x86_64")]
    single!("f32_dot__avx2", Avx2, Dot, DotTile, dot_tile),
    #[cfg(target_arch = "x86_64")]
    single!("f32_score__avx2", Avx2, Score, ScoreRow, score_row),
    #[cfg(target_arch = "x86_64")]
    single!("f32_turn__avx2", Avx2, Turn, TurnedPanel, turned_panel),
    #[cfg(target_arch = "x86_64")]
    scattered!("f32_scattered_3x32__avx2", Avx2, [1 2 3] x 4),
    #[cfg(target_arch = "x86_64")]
    looped!("f32_expand__avx2", Avx2, Expand, ScatteredRows, expand_rows::<Avx2, 4>),
    #[cfg(target_arch = "x86_64")]
    single!("f32_winograd_input__avx2", Avx2, WinogradInput, WinogradInput, winograd_input),
    #[cfg(target_arch = "x86_64")]
    single!("f32_winograd_output__avx2", Avx2, WinogradOutput, WinogradOutput, winograd_output),
    looped!("f32_curve__avx2", Avx2, Curve, CurveRow, curve_row),
    #[cfg(target_arch = "x86_64")]
    looped!("f32_cell__avx2", Avx2, Cell, CellRow<'_>, cell_row),
    #[cfg(target_arch = "x86_64")]
    gemm!("f32_gemm_14x32__avx512", Avx512, [1 2 3 4 5 6 7 8 9 10 11 12 13 14] x 2),
    #[cfg(target_arch = "x86_64")]
    panels!("f32_sparse_panels_14x32__avx512", Avx512, [1 2 3 4 5 6 7 8 9 10 11 12 13 14] x 2),
    #[cfg(target_arch = "x86_64")]
    columns!("f32_sparse_columns_14x16__avx512", Avx512, [1 2 3 4 5 6 7 8 9 10 11 12 13 14] x 1),
    #[cfg(target_arch = "x86_64")]
    columns!("f32_sparse_columns_4x32__avx512", Avx512, [1 2 3 4] x 2),
    #[cfg(target_arch = "x86_64")]
    depthwise!("f32_depthwise_8x16__avx512", Avx512, [1 2 3 4 5 6 7 8]),
    #[cfg(target_arch = "x86_64")]
    single!("f32_pool__avx512", Avx512, Pool, PoolPixel, pool_pixel),
    #[cfg(target_arch = "x86_64")]
    single!("f32_softmax__avx512", Avx512, Softmax, SoftmaxRow, softmax_row),
    #[cfg(target_arch = "x86_64")]
    single!("f32_norm__avx512", Avx512, Norm, NormRow, norm_row),
    #[cfg(target_arch = "x86_64")]
    single!("f32_dot__avx512", Avx512, Dot, DotTile, dot_tile),
    #[cfg(target_arch = "x86_64")]
    single!("f32_score__avx512", Avx512, Score, ScoreRow, score_row),
    #[cfg(target_arch = "x86_64")]
    single!("f32_turn__avx512", Avx512, Turn, TurnedPanel, turned_panel),
    #[cfg(target_arch = "x86_64")]
    scattered!("f32_scattered_4x32__avx512", Avx512, [1 2 3 4] x 2),
    #[cfg(target_arch = "x86_64")]
    looped!("f32_expand__avx512", Avx512, Expand, ScatteredRows, expand_rows::<Avx512, 2>),
    #[cfg(target_arch = "x86_64")]
    single!("f32_winograd_input__avx512", Avx512, WinogradInput, WinogradInput, winograd_input),
    #[cfg(target_arch = "x86_64")]
    single!("f32_winograd_output__avx512", Avx512, WinogradOutput, WinogradOutput, winograd_output),
    looped!("f32_curve__avx512", Avx512, Curve, CurveRow, curve_row),
    #[cfg(target_arch = "x86_64")]
    looped!("f32_cell__avx512", Avx512, Cell, CellRow<'_>, cell_row),
];

/// The kernels of one instruction set that this machine supports.
///
/// **Invariant:** the functions in it can run here; only [`Self::new`] makes one, and it checks.
#[derive(Clone, Copy)]
pub struct Kernels {
    isa: Isa,
    /// Highest tile.
    pub(crate) gemm: GemmKernel,
    /// Widest tile, for few rows.
    pub(crate) gemm_low: GemmKernel,
    /// Highest and widest tiles with a sparse B, by what shares a pattern.
    pub(crate) sparse_panels: [TileKernel<SparseTile>; 2],
    pub(crate) sparse_columns: [TileKernel<SparseTile>; 2],
    pub(crate) depthwise: &'static [unsafe fn(&DepthwiseTile)],
    pub(crate) pool: unsafe fn(&PoolPixel),
    pub(crate) softmax: unsafe fn(&SoftmaxRow),
    pub(crate) norm: unsafe fn(&NormRow),
    pub(crate) dot: unsafe fn(&DotTile),
    pub(crate) score: unsafe fn(&ScoreRow),
    pub(crate) turn: unsafe fn(&TurnedPanel),
    pub(crate) expand: unsafe fn(&ScatteredRows),
    pub(crate) scattered: &'static [unsafe fn(&ScatteredTile)],
    pub(crate) winograd_input: unsafe fn(&WinogradInput),
    pub(crate) winograd_output: unsafe fn(&WinogradOutput),
    pub(crate) curve: unsafe fn(&CurveRow),
    pub(crate) cell: unsafe fn(&CellRow<'_>),
}

impl Kernels {
    /// The kernels of `isa`, if the machine supports it.
    pub fn new(isa: Isa) -> Result<Self, KernelError> {
        let unavailable = KernelError::Unavailable(isa.name());
        if !isa.is_available() {
            return Err(unavailable);
        }
        let functions = || KERNELS.iter().filter(|row| row.isa == isa).map(|row| row.function);
        macro_rules! the {
            ($kind:ident) => {
                functions()
                    .find_map(|f| if let KernelFn::$kind(f) = f { Some(f) } else { None })
                    .ok_or(unavailable.clone())?
            };
        }
        macro_rules! tiles {
            ($kind:ident) => {
                highest_and_lowest(
                    functions().filter_map(|f| if let KernelFn::$kind(k) = f { Some(k) } else { None }),
                )
                .ok_or(unavailable.clone())?
            };
        }
        let [gemm, gemm_low] = tiles!(Gemm);
        Ok(Self {
            isa,
            gemm,
            gemm_low,
            sparse_panels: tiles!(SparsePanels),
            sparse_columns: tiles!(SparseColumns),
            depthwise: the!(Depthwise),
            pool: the!(Pool),
            softmax: the!(Softmax),
            norm: the!(Norm),
            dot: the!(Dot),
            score: the!(Score),
            turn: the!(Turn),
            expand: the!(Expand),
            scattered: the!(Scattered),
            winograd_input: the!(WinogradInput),
            winograd_output: the!(WinogradOutput),
            curve: the!(Curve),
            cell: the!(Cell),
        })
    }

    /// The kernels of [`Isa::detect`].
    pub fn detect() -> Result<Self, KernelError> {
        Self::new(Isa::detect())
    }

    /// Their instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernels::tile::MAX_ROWS;
    use crate::cpu::pack::PANEL;

    fn named<T>(head: &str, kind: &str, kernel: &TileKernel<T>) {
        assert_eq!(head, format!("{kind}_{}x{}", kernel.tiles.len(), kernel.cols));
        assert!(PANEL.is_multiple_of(kernel.cols) && kernel.tiles.len() <= MAX_ROWS);
    }

    #[test]
    fn names_say_what_the_rows_are() {
        for row in KERNELS {
            let (head, isa) = row.name.split_once("__").unwrap();
            assert_eq!(isa, row.isa.name());
            match row.function {
                KernelFn::Gemm(kernel) => named(head, "f32_gemm", &kernel),
                KernelFn::SparsePanels(kernel) => named(head, "f32_sparse_panels", &kernel),
                KernelFn::SparseColumns(kernel) => named(head, "f32_sparse_columns", &kernel),
                KernelFn::Depthwise(tiles) => {
                    assert!(head.starts_with(&format!("f32_depthwise_{}x", tiles.len())));
                    assert!(tiles.len() <= MAX_ROWS);
                }
                KernelFn::Pool(_) => assert_eq!(head, "f32_pool"),
                KernelFn::Softmax(_) => assert_eq!(head, "f32_softmax"),
                KernelFn::Norm(_) => assert_eq!(head, "f32_norm"),
                KernelFn::Dot(_) => assert_eq!(head, "f32_dot"),
                KernelFn::Score(_) => assert_eq!(head, "f32_score"),
                KernelFn::Turn(_) => assert_eq!(head, "f32_turn"),
                KernelFn::WinogradInput(_) => assert_eq!(head, "f32_winograd_input"),
                KernelFn::WinogradOutput(_) => assert_eq!(head, "f32_winograd_output"),
                KernelFn::Scattered(tiles) => {
                    assert_eq!(head, format!("f32_scattered_{}x{PANEL}", tiles.len()))
                }
                KernelFn::Expand(_) => assert_eq!(head, "f32_expand"),
                KernelFn::Curve(_) => assert_eq!(head, "f32_curve"),
                KernelFn::Cell(_) => assert_eq!(head, "f32_cell"),
            }
        }
    }

    #[test]
    fn every_available_instruction_set_resolves() {
        for isa in Isa::ALL {
            assert_eq!(Kernels::new(isa).is_ok(), isa.is_available());
        }
    }
}
