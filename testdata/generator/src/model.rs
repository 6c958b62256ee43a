//! A model without weights, and how it becomes a file.

use crate::{Error, Parameter, Weights};
use autoglm_compiler::onnx::encode;
use autoglm_compiler::onnx::proto::{
    GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// A protobuf message cannot be larger; a part is left for everything but weights.
const INLINE_MAX: u64 = (1 << 31) - (16 << 20);
/// Tensors in a data file start at a multiple of this, so that they can be mapped.
const DATA_ALIGN: u64 = 4096;

/// Where weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// In the model's file, unless they are too large for one message.
    #[default]
    Auto,
    /// In a file beside the model's.
    External,
}

/// An architecture: a graph whose weights are listed and not there yet.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) graph: GraphProto,
    pub(crate) opset: i64,
    pub(crate) parameters: Vec<Parameter>,
}

impl Model {
    /// All tensors that a checkpoint has to hold, in the order in which they are used.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Number of learned elements, as papers count them.
    pub fn parameter_count(&self) -> u64 {
        self.parameters.iter().filter(|p| !p.statistic).map(|p| p.count() as u64).sum()
    }

    fn weight_bytes(&self) -> u64 {
        self.parameters.iter().map(|p| 4 * p.count() as u64).sum()
    }

    /// The whole model as one message.
    pub fn to_bytes(&self, weights: &dyn Weights) -> Result<Vec<u8>, Error> {
        if self.weight_bytes() > INLINE_MAX {
            return Err(Error::TooLarge(self.weight_bytes()));
        }
        let tensors = self
            .parameters
            .iter()
            .map(|p| Ok(TensorProto { raw_data: Some(stored(p, weights)?.into()), ..declaration(p) }));
        Ok(self.encode(tensors.collect::<Result<_, Error>>()?))
    }

    /// Writes the model, and a file of the same name with `.data` added if the weights are stored externally.
    pub fn write(&self, path: &Path, weights: &dyn Weights, storage: Storage) -> Result<(), Error> {
        let bytes = if storage == Storage::External || self.weight_bytes() > INLINE_MAX {
            self.write_data(path, weights)?
        } else {
            self.to_bytes(weights)?
        };
        std::fs::write(path, bytes).map_err(|source| Error::Io { path: path.to_owned(), source })
    }

    /// Writes the weights beside `path`, one at a time, and gives the model that refers to them.
    fn write_data(&self, path: &Path, weights: &dyn Weights) -> Result<Vec<u8>, Error> {
        let file_name = path.file_name().and_then(|n| n.to_str());
        let file_name = file_name.ok_or_else(|| Error::Setting("the path names no file".into()))?;
        let location = format!("{file_name}.data");
        let path = path.with_file_name(&location);
        let failed = |source| Error::Io { path: path.clone(), source };
        let mut file = BufWriter::new(File::create(&path).map_err(failed)?);
        let mut offset = 0u64;
        let mut tensors = Vec::with_capacity(self.parameters.len());
        for p in &self.parameters {
            let gap = offset.next_multiple_of(DATA_ALIGN) - offset;
            file.write_all(&vec![0; gap as usize]).map_err(failed)?;
            offset += gap;
            let data = stored(p, weights)?;
            file.write_all(&data).map_err(failed)?;
            let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
            let external_data = vec![
                entry("location", location.clone()),
                entry("offset", offset.to_string()),
                entry("length", data.len().to_string()),
            ];
            tensors.push(TensorProto { external_data, data_location: 1, ..declaration(p) });
            offset += data.len() as u64;
        }
        file.flush().map_err(failed)?;
        Ok(self.encode(tensors))
    }

    fn encode(&self, tensors: Vec<TensorProto>) -> Vec<u8> {
        let mut graph = self.graph.clone();
        graph.initializer.extend(tensors);
        encode::model(&ModelProto {
            // The first version that knows the operator set; readers of that age take the file.
            ir_version: if self.opset >= 19 { 9 } else { 8 },
            producer_name: "autoglm-generator".into(),
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: self.opset }],
            ..ModelProto::default()
        })
    }
}

/// Name, type and extents of the initializer.
fn declaration(p: &Parameter) -> TensorProto {
    TensorProto {
        name: p.initializer(),
        data_type: crate::builder::F32,
        dims: p.stored_dims().iter().map(|d| *d as i64).collect(),
        ..TensorProto::default()
    }
}

/// The initializer's bytes.
fn stored(p: &Parameter, weights: &dyn Weights) -> Result<Vec<u8>, Error> {
    let values = weights.values(p)?;
    let at = |i: usize| values.get(i).copied().unwrap_or(f32::NAN);
    match (p.transposed, p.dims.as_slice()) {
        (true, [rows, cols]) => {
            let order = (0..*cols).flat_map(|c| (0..*rows).map(move |r| r * cols + c));
            Ok(order.flat_map(|i| at(i).to_le_bytes()).collect())
        }
        _ => Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
    }
}
