//! How each ONNX operator becomes IR, one family a file.

mod activation;
mod attention;
mod conv;
mod conv_transpose;
mod decoder;
mod einsum;
mod elementwise;
mod generate;
mod index;
mod loss;
mod matmul;
mod norm;
mod pad;
mod pool;
mod quant;
mod recurrent;
mod reduce;
mod resize;
mod scan;
mod shape;
mod slice;
mod window;

use super::node::Importer;

/// Every supported operator.
pub(crate) static IMPORTERS: &[&[Importer]] = &[
    activation::IMPORTERS,
    attention::IMPORTERS,
    conv::IMPORTERS,
    conv_transpose::IMPORTERS,
    decoder::IMPORTERS,
    einsum::IMPORTERS,
    elementwise::IMPORTERS,
    generate::IMPORTERS,
    index::IMPORTERS,
    loss::IMPORTERS,
    matmul::IMPORTERS,
    norm::IMPORTERS,
    pad::IMPORTERS,
    pool::IMPORTERS,
    quant::IMPORTERS,
    recurrent::IMPORTERS,
    reduce::IMPORTERS,
    resize::IMPORTERS,
    scan::IMPORTERS,
    shape::IMPORTERS,
    slice::IMPORTERS,
];
