//! The prescan: checks the structure of an ONNX file before anything is decoded from it.
//!
//! It walks the tags and lengths of the messages that the schema knows and skips every payload by its length, so a
//! model of many gigabytes costs as much as its structure. After it, decoding can neither nest deeper, nor
//! allocate more, than [`Limits`] allows.

use super::error::{ReadError, code};
use super::limits::Limits;
use super::proto;

/// What a prescan counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Nodes of all graphs and functions.
    pub nodes: u64,
    /// Dense and sparse initializers.
    pub initializers: u64,
    /// Attributes of nodes and functions.
    pub attributes: u64,
    /// Model-local functions.
    pub functions: u64,
    /// Bytes of documentation and metadata.
    pub metadata_bytes: u64,
    /// Estimated memory of the decoded messages.
    pub decoded_bytes: u64,
    /// Deepest nesting of messages, the model itself being 1.
    pub depth: usize,
}

/// The messages that can contain others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Msg {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    TensorType,
    SequenceType,
    MapType,
    Shape,
    Dimension,
    Function,
    Opset,
    Entry,
    Annotation,
    Training,
    Device,
    NodeDevice,
    Sharding,
    Groups,
    ShardedDim,
    Plain,
}

/// What a field holds, as far as the prescan cares.
enum Field {
    /// A message of its own, and the field's name.
    Sub(&'static str, Msg),
    /// A name or other text that is decoded to a string.
    Name,
    /// Documentation: kept in place, counted as metadata.
    Doc,
    /// A metadata key or value.
    Meta,
    /// A payload kept in place.
    Payload,
    /// Packed numbers; one byte of the file takes at most so many bytes decoded.
    Packed(u64),
    /// A number, or a field the schema does not know.
    Other,
}

/// What the field of a message holds.
fn field(msg: Msg, number: u32) -> Field {
    use Field::*;
    use Msg::*;
    match (msg, number) {
        (Model, 6)
        | (Graph, 10)
        | (Node, 6)
        | (Attribute, 13)
        | (Tensor, 12)
        | (ValueInfo, 3)
        | (Function, 8) => Doc,
        (Entry, 1 | 2) => Meta,
        (Attribute, 4 | 9) | (Tensor, 6 | 9) => Payload,
        (Attribute, 7) | (Tensor, 4 | 10) => Packed(1),
        (Tensor, 5) => Packed(4),
        (Attribute, 8) | (Tensor, 1 | 7 | 11) | (Sparse, 3) | (Groups | Sharding, 2) => Packed(8),
        (Model, 2..=4) | (Graph, 2) | (Type, 6) | (Tensor, 8) | (Dimension, 2 | 3) => Name,
        (Node, 1..=4 | 7 | 8) | (Attribute, 1 | 21) | (Function, 1 | 4..=6 | 10 | 13) => Name,
        (ValueInfo | Opset | Annotation | NodeDevice | Sharding, 1) | (Device, 1 | 3) | (Plain, 1 | 2) => {
            Name
        }
        _ => sub_message(msg, number).map_or(Other, |(name, child)| Sub(name, child)),
    }
}

/// The fields that are messages.
fn sub_message(msg: Msg, number: u32) -> Option<(&'static str, Msg)> {
    use Msg::*;
    Some(match (msg, number) {
        (Model, 7) => ("graph", Graph),
        (Model, 8) | (Function, 9) => ("opset_import", Opset),
        (Model | Function, 14) | (Graph | Tensor, 16) | (Node, 9) | (ValueInfo, 4) => {
            ("metadata_props", Entry)
        }
        (Model, 20) => ("training_info", Training),
        (Model, 25) => ("functions", Function),
        (Model, 26) => ("configuration", Device),
        (Graph, 1) | (Function, 7) => ("node", Node),
        (Graph, 5) => ("initializer", Tensor),
        (Graph, 11) => ("input", ValueInfo),
        (Graph, 12) => ("output", ValueInfo),
        (Graph, 13) | (Function, 12) => ("value_info", ValueInfo),
        (Graph, 14) => ("quantization_annotation", Annotation),
        (Graph, 15) => ("sparse_initializer", Sparse),
        (Node, 5) => ("attribute", Attribute),
        (Node, 10) => ("device_configurations", NodeDevice),
        (Function, 11) => ("attribute_proto", Attribute),
        (Attribute, 5) => ("t", Tensor),
        (Attribute, 6) => ("g", Graph),
        (Attribute, 10) => ("tensors", Tensor),
        (Attribute, 11) => ("graphs", Graph),
        (Attribute, 14) => ("tp", Type),
        (Attribute, 15) => ("type_protos", Type),
        (Attribute, 22) => ("sparse_tensor", Sparse),
        (Attribute, 23) => ("sparse_tensors", Sparse),
        (Tensor, 3) => ("segment", Plain),
        (Tensor, 13) => ("external_data", Entry),
        (Sparse, 1) => ("values", Tensor),
        (Sparse, 2) => ("indices", Tensor),
        (ValueInfo, 2) => ("type", Type),
        (Type, 1) => ("tensor_type", TensorType),
        (Type, 4) => ("sequence_type", SequenceType),
        (Type, 5) => ("map_type", MapType),
        (Type, 7) => ("opaque_type", Plain),
        (Type, 8) => ("sparse_tensor_type", TensorType),
        (Type, 9) => ("optional_type", SequenceType),
        (SequenceType, 1) => ("elem_type", Type),
        (MapType, 2) => ("value_type", Type),
        (TensorType, 2) => ("shape", Shape),
        (Shape, 1) => ("dim", Dimension),
        (Annotation, 2) => ("quant_parameter_tensor_names", Entry),
        (Training, 1) => ("initialization", Graph),
        (Training, 2) => ("algorithm", Graph),
        (Training, 3) => ("initialization_binding", Entry),
        (Training, 4) => ("update_binding", Entry),
        (NodeDevice, 2) => ("sharding_spec", Sharding),
        (Sharding, 3) => ("index_to_device_group_map", Groups),
        (Sharding, 4) => ("sharded_dim", ShardedDim),
        (ShardedDim, 2) => ("simple_sharding", Plain),
        _ => return None,
    })
}

/// Memory that an empty decoded message of this kind takes in its parent.
fn footprint(msg: Msg) -> u64 {
    use std::mem::size_of;
    let size = match msg {
        Msg::Model | Msg::Plain | Msg::SequenceType | Msg::MapType | Msg::TensorType | Msg::Shape => 32,
        Msg::Graph => size_of::<proto::GraphProto>(),
        Msg::Node => size_of::<proto::NodeProto>(),
        Msg::Attribute => size_of::<proto::AttributeProto>(),
        Msg::Tensor => size_of::<proto::TensorProto>(),
        Msg::Sparse => size_of::<proto::SparseTensorProto>(),
        Msg::ValueInfo => size_of::<proto::ValueInfoProto>(),
        Msg::Type => size_of::<proto::TypeProto>(),
        Msg::Dimension => size_of::<proto::Dimension>(),
        Msg::Function => size_of::<proto::FunctionProto>(),
        Msg::Training => size_of::<proto::TrainingInfoProto>(),
        Msg::Opset | Msg::Entry | Msg::Annotation | Msg::Device => size_of::<proto::StringStringEntryProto>(),
        Msg::NodeDevice | Msg::Sharding | Msg::Groups | Msg::ShardedDim => {
            size_of::<proto::ShardingSpecProto>()
        }
    };
    size as u64
}

/// One message being walked.
struct Frame {
    msg: Msg,
    name: &'static str,
    /// Offset of the first byte after it.
    end: usize,
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Frame>,
    census: Census,
    limits: &'a Limits,
}

/// Checks the structure of a whole file against the limits.
pub fn prescan(bytes: &[u8], limits: &Limits) -> Result<Census, ReadError> {
    let model = Frame { msg: Msg::Model, name: "model", end: bytes.len() };
    let mut scan = Scan { bytes, at: 0, stack: vec![model], census: Census::default(), limits };
    scan.census.depth = 1;
    while let Some(top) = scan.stack.last() {
        if scan.at == top.end {
            scan.stack.pop();
        } else {
            let (msg, end) = (top.msg, top.end);
            scan.field(msg, end)?;
        }
    }
    Ok(scan.census)
}

impl Scan<'_> {
    /// Walks over one field of the innermost message, or steps into it.
    fn field(&mut self, msg: Msg, end: usize) -> Result<(), ReadError> {
        let start = self.at;
        let tag = self.varint(end)?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| (1..1 << 29).contains(n));
        let Some(number) = number else {
            return Err(self.broken(start, format!("a field has the impossible number {}", tag >> 3)));
        };
        match tag & 7 {
            0 => self.varint(end).map(|_| self.census.decoded_bytes += 8),
            1 => self.skip(8, end),
            2 => self.delimited(msg, number, end),
            5 => self.skip(4, end),
            3 | 4 => Err(self.broken(start, "it uses protobuf groups, which ONNX files never do".into())),
            wire => Err(self.broken(start, format!("wire type {wire} does not exist"))),
        }
    }

    fn delimited(&mut self, msg: Msg, number: u32, end: usize) -> Result<(), ReadError> {
        let start = self.at;
        let len = self.varint(end)?;
        let left = (end - self.at) as u64;
        if len > left {
            let what = format!("a length of {len} bytes where {left} are left");
            return Err(self.broken(start, what));
        }
        // It fits: it is at most the length of a slice.
        let len = len as usize;
        match field(msg, number) {
            Field::Sub(name, child) => return self.enter(msg, child, name, self.at + len),
            Field::Name => {
                self.census.decoded_bytes += 24 + len as u64;
                limit("length of a name", len as u64, self.limits.name_bytes, "name-bytes")
                    .map_err(|e| e.at(&self.path()))?;
            }
            Field::Doc => self.census.metadata_bytes += len as u64,
            Field::Meta => {
                self.census.metadata_bytes += len as u64;
                self.census.decoded_bytes += len as u64;
            }
            Field::Payload => self.census.decoded_bytes += 32,
            Field::Packed(blowup) => {
                self.census.decoded_bytes = self.census.decoded_bytes.saturating_add(blowup * len as u64);
            }
            Field::Other => {}
        }
        self.at += len;
        limit("metadata", self.census.metadata_bytes, self.limits.metadata_bytes, "metadata-bytes")?;
        self.check_memory()
    }

    fn enter(&mut self, parent: Msg, child: Msg, name: &'static str, end: usize) -> Result<(), ReadError> {
        let limits = self.limits;
        let census = &mut self.census;
        let count = |counter: &mut u64, what, max, flag| {
            *counter += 1;
            limit(what, *counter, max, flag)
        };
        match (parent, child) {
            (_, Msg::Node) => count(&mut census.nodes, "number of nodes", limits.nodes, "nodes")?,
            (_, Msg::Attribute) => {
                count(&mut census.attributes, "number of attributes", limits.attributes, "attributes")?;
            }
            (_, Msg::Function) => {
                count(&mut census.functions, "number of functions", limits.functions, "functions")?;
            }
            (Msg::Graph, Msg::Tensor | Msg::Sparse) => {
                count(
                    &mut census.initializers,
                    "number of initializers",
                    limits.initializers,
                    "initializers",
                )?;
            }
            _ => {}
        }
        census.decoded_bytes += footprint(child);
        self.stack.push(Frame { msg: child, name, end });
        let depth = self.stack.len();
        self.census.depth = self.census.depth.max(depth);
        limit("depth of nested messages", depth as u64, limits.depth as u64, "depth")
            .map_err(|e| e.at(&self.path()))?;
        self.check_memory()
    }

    fn check_memory(&self) -> Result<(), ReadError> {
        limit(
            "memory for the decoded model",
            self.census.decoded_bytes,
            self.limits.decoded_bytes,
            "decoded-bytes",
        )
    }

    fn skip(&mut self, len: usize, end: usize) -> Result<(), ReadError> {
        if end - self.at < len {
            return Err(self.broken(self.at, "it ends inside a number".into()));
        }
        self.at += len;
        self.census.decoded_bytes += 8;
        Ok(())
    }

    fn varint(&mut self, end: usize) -> Result<u64, ReadError> {
        let start = self.at;
        let mut value = 0u64;
        for i in 0..10 {
            if self.at == end {
                return Err(self.broken(start, "it ends inside a number".into()));
            }
            let byte = self.bytes[self.at];
            self.at += 1;
            if i == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.broken(start, "a number is longer than 64 bits".into()))
    }

    /// Where the scan is, in words.
    fn path(&self) -> String {
        let mut path = String::new();
        for frame in self.stack.iter().take(12) {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(frame.name);
        }
        if self.stack.len() > 12 {
            path.push_str("...");
        }
        if self.census.nodes > 0 {
            path.push_str(&format!(" (after {} nodes)", self.census.nodes - 1));
        }
        path
    }

    fn broken(&self, offset: usize, what: String) -> ReadError {
        ReadError::new(
            code::WIRE,
            format!("the file is damaged: at byte {offset} of {}: {what}", self.bytes.len()),
        )
        .help("Check that the file was copied completely (compare its size or checksum with the original).")
        .at(&self.path())
    }
}

fn limit(what: &str, value: u64, max: u64, flag: &str) -> Result<(), ReadError> {
    if value <= max {
        return Ok(());
    }
    Err(ReadError::new(code::LIMIT, format!("{what}: {value} is more than the limit of {max}"))
        .help(format!("If you trust the file, raise the limit `{flag}`.")))
}
