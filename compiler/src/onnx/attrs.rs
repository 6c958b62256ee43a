//! Typed access to a node's attributes.

use super::error::{ReadError, code, shown};
use super::proto::{
    AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto, TypeProto, attribute_type as ty,
};
use bytes::Bytes;
use std::collections::HashSet;

/// The attributes of one node.
#[derive(Debug)]
pub struct Attrs<'a> {
    node: &'a NodeProto,
    entries: Vec<Entry<'a>>,
}

#[derive(Debug)]
struct Entry<'a> {
    attr: &'a AttributeProto,
    kind: i32,
}

/// The attribute types of ONNX by their codes.
const TYPE_NAMES: [&str; 15] = [
    "undefined",
    "float",
    "int",
    "string",
    "tensor",
    "graph",
    "floats",
    "ints",
    "strings",
    "tensors",
    "graphs",
    "sparse_tensor",
    "sparse_tensors",
    "type_proto",
    "type_protos",
];

/// The attribute type of a name.
pub(crate) fn kind_named(name: &str) -> Option<i32> {
    TYPE_NAMES.iter().position(|n| *n == name).and_then(|k| i32::try_from(k).ok())
}

/// The name of an attribute type as messages show it.
fn type_name(kind: i32) -> &'static str {
    usize::try_from(kind).ok().and_then(|k| TYPE_NAMES.get(k)).copied().unwrap_or("unknown")
}

/// The types of the value fields that are set.
fn populated(attr: &AttributeProto) -> impl Iterator<Item = i32> {
    [
        (attr.f.is_some(), ty::FLOAT),
        (attr.i.is_some(), ty::INT),
        (attr.s.is_some(), ty::STRING),
        (attr.t.is_some(), ty::TENSOR),
        (attr.g.is_some(), ty::GRAPH),
        (!attr.floats.is_empty(), ty::FLOATS),
        (!attr.ints.is_empty(), ty::INTS),
        (!attr.strings.is_empty(), ty::STRINGS),
        (!attr.tensors.is_empty(), ty::TENSORS),
        (!attr.graphs.is_empty(), ty::GRAPHS),
        (attr.sparse_tensor.is_some(), ty::SPARSE_TENSOR),
        (!attr.sparse_tensors.is_empty(), ty::SPARSE_TENSORS),
        (attr.tp.is_some(), ty::TYPE_PROTO),
        (!attr.type_protos.is_empty(), ty::TYPE_PROTOS),
    ]
    .into_iter()
    .filter_map(|(set, kind)| set.then_some(kind))
}

/// The type of an attribute: as declared, or for old files by the one field that is set.
fn kind_of(attr: &AttributeProto) -> Result<i32, ReadError> {
    let bad = |what: String| {
        Err(ReadError::new(code::ATTR_VALUE, format!("the attribute {} {what}", shown(&attr.name))))
    };
    if !attr.ref_attr_name.is_empty() {
        return bad(format!(
            "refers to the function attribute {}, but stands outside of any function",
            shown(&attr.ref_attr_name)
        ));
    }
    let mut set = populated(attr);
    let (first, second) = (set.next(), set.next());
    if let (Some(first), Some(second)) = (first, second) {
        return bad(format!("has two values: {} and {}", type_name(first), type_name(second)));
    }
    match (attr.r#type, first) {
        (ty::UNDEFINED, Some(kind)) => Ok(kind),
        (ty::UNDEFINED, None) => bad("has neither a type nor a value".into()),
        (kind, _) if type_name(kind) == "unknown" => bad(format!("has the unknown type {kind}")),
        (kind, Some(set)) if kind != set => {
            bad(format!("is declared as {}, but its value is {}", type_name(kind), type_name(set)))
        }
        // Writers without field presence leave out zeros, empty strings and empty lists, never messages.
        (kind @ (ty::TENSOR | ty::GRAPH | ty::SPARSE_TENSOR | ty::TYPE_PROTO), None) => {
            bad(format!("is declared as {}, but has no value", type_name(kind)))
        }
        (kind, _) => Ok(kind),
    }
}

impl<'a> Attrs<'a> {
    /// Checks that every attribute has one name, one type and one value.
    pub fn new(node: &'a NodeProto) -> Result<Self, ReadError> {
        let mut seen = HashSet::new();
        let mut entries = Vec::with_capacity(node.attribute.len());
        for attr in &node.attribute {
            if attr.name.is_empty() {
                let what = "an attribute has no name";
                return Err(ReadError::new(code::EMPTY_NAME, what).at(&node.name));
            }
            if !seen.insert(attr.name.as_str()) {
                let what = format!("the attribute {} is given twice", shown(&attr.name));
                return Err(ReadError::new(code::ATTR_TWICE, what).at(&node.name));
            }
            let kind = kind_of(attr).map_err(|e| e.at(&node.name))?;
            entries.push(Entry { attr, kind });
        }
        Ok(Self { node, entries })
    }

    fn find(&self, name: &str) -> Option<&Entry<'a>> {
        self.entries.iter().find(|e| e.attr.name == name)
    }

    fn typed(&self, name: &str, kind: i32) -> Result<Option<&'a AttributeProto>, ReadError> {
        match self.find(name) {
            None => Ok(None),
            Some(entry) if entry.kind == kind => Ok(Some(entry.attr)),
            Some(entry) => {
                let what = format!(
                    "the attribute {} of {} must be {}, but is {}",
                    shown(name),
                    shown(&self.node.op_type),
                    type_name(kind),
                    type_name(entry.kind)
                );
                Err(ReadError::new(code::ATTR_TYPE, what).at(&self.node.name))
            }
        }
    }

    fn need<T>(&self, name: &str, value: Option<T>) -> Result<T, ReadError> {
        value.ok_or_else(|| {
            let what = format!("{} needs the attribute {}", shown(&self.node.op_type), shown(name));
            ReadError::new(code::ATTR_MISSING, what).at(&self.node.name)
        })
    }

    fn utf8(&self, name: &str, bytes: &'a Bytes) -> Result<&'a str, ReadError> {
        std::str::from_utf8(bytes).map_err(|_| {
            let what = format!("the attribute {} is not valid UTF-8", shown(name));
            ReadError::new(code::ATTR_VALUE, what).at(&self.node.name)
        })
    }

    /// Whether the attribute is there, whatever its type.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// An integer, if given.
    pub fn opt_i(&self, name: &str) -> Result<Option<i64>, ReadError> {
        Ok(self.typed(name, ty::INT)?.map(|a| a.i.unwrap_or(0)))
    }

    /// An integer.
    pub fn i(&self, name: &str, default: i64) -> Result<i64, ReadError> {
        Ok(self.opt_i(name)?.unwrap_or(default))
    }

    /// An integer that must be given.
    pub fn require_i(&self, name: &str) -> Result<i64, ReadError> {
        self.need(name, self.opt_i(name)?)
    }

    /// A number, if given.
    pub fn opt_f(&self, name: &str) -> Result<Option<f32>, ReadError> {
        Ok(self.typed(name, ty::FLOAT)?.map(|a| a.f.unwrap_or(0.0)))
    }

    /// A number.
    pub fn f(&self, name: &str, default: f32) -> Result<f32, ReadError> {
        Ok(self.opt_f(name)?.unwrap_or(default))
    }

    /// A string, if given; it must be UTF-8.
    pub fn opt_s(&self, name: &str) -> Result<Option<&'a str>, ReadError> {
        match self.typed(name, ty::STRING)?.map(|a| a.s.as_ref()) {
            None => Ok(None),
            Some(None) => Ok(Some("")),
            Some(Some(bytes)) => self.utf8(name, bytes).map(Some),
        }
    }

    /// A string; it must be UTF-8.
    pub fn s<'d>(&self, name: &str, default: &'d str) -> Result<&'d str, ReadError>
    where
        'a: 'd,
    {
        Ok(self.opt_s(name)?.unwrap_or(default))
    }

    /// The bytes of a string, if given, valid UTF-8 or not.
    pub fn opt_bytes(&self, name: &str) -> Result<Option<Bytes>, ReadError> {
        Ok(self.typed(name, ty::STRING)?.map(|a| a.s.clone().unwrap_or_default()))
    }

    /// A list of integers, if given.
    pub fn ints(&self, name: &str) -> Result<Option<&'a [i64]>, ReadError> {
        Ok(self.typed(name, ty::INTS)?.map(|a| a.ints.as_slice()))
    }

    /// A list of integers that must be given.
    pub fn require_ints(&self, name: &str) -> Result<&'a [i64], ReadError> {
        self.need(name, self.ints(name)?)
    }

    /// A list of numbers, if given.
    pub fn floats(&self, name: &str) -> Result<Option<&'a [f32]>, ReadError> {
        Ok(self.typed(name, ty::FLOATS)?.map(|a| a.floats.as_slice()))
    }

    /// A list of numbers that must be given.
    pub fn require_floats(&self, name: &str) -> Result<&'a [f32], ReadError> {
        self.need(name, self.floats(name)?)
    }

    /// A list of strings, if given; each must be UTF-8.
    pub fn strings(&self, name: &str) -> Result<Option<Vec<&'a str>>, ReadError> {
        let Some(attr) = self.typed(name, ty::STRINGS)? else { return Ok(None) };
        attr.strings.iter().map(|bytes| self.utf8(name, bytes)).collect::<Result<_, _>>().map(Some)
    }

    /// A list of strings that must be given; each must be UTF-8.
    pub fn require_strings(&self, name: &str) -> Result<Vec<&'a str>, ReadError> {
        self.need(name, self.strings(name)?)
    }

    /// A tensor, if given.
    pub fn tensor(&self, name: &str) -> Result<Option<&'a TensorProto>, ReadError> {
        Ok(self.typed(name, ty::TENSOR)?.and_then(|a| a.t.as_deref()))
    }

    /// A tensor that must be given.
    pub fn require_tensor(&self, name: &str) -> Result<&'a TensorProto, ReadError> {
        self.need(name, self.tensor(name)?)
    }

    /// A list of tensors, if given.
    pub fn tensors(&self, name: &str) -> Result<Option<&'a [TensorProto]>, ReadError> {
        Ok(self.typed(name, ty::TENSORS)?.map(|a| a.tensors.as_slice()))
    }

    /// A sparse tensor, if given.
    pub fn sparse_tensor(&self, name: &str) -> Result<Option<&'a SparseTensorProto>, ReadError> {
        Ok(self.typed(name, ty::SPARSE_TENSOR)?.and_then(|a| a.sparse_tensor.as_deref()))
    }

    /// A type, if given.
    pub fn type_proto(&self, name: &str) -> Result<Option<&'a TypeProto>, ReadError> {
        Ok(self.typed(name, ty::TYPE_PROTO)?.and_then(|a| a.tp.as_deref()))
    }

    /// A graph, if given.
    pub fn graph(&self, name: &str) -> Result<Option<&'a GraphProto>, ReadError> {
        Ok(self.typed(name, ty::GRAPH)?.and_then(|a| a.g.as_deref()))
    }

    /// A graph that must be given.
    pub fn require_graph(&self, name: &str) -> Result<&'a GraphProto, ReadError> {
        self.need(name, self.graph(name)?)
    }

    /// A list of graphs, if given.
    pub fn graphs(&self, name: &str) -> Result<Option<&'a [GraphProto]>, ReadError> {
        Ok(self.typed(name, ty::GRAPHS)?.map(|a| a.graphs.as_slice()))
    }

    /// The names of all attributes, in file order.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.iter().map(|e| e.attr.name.as_str())
    }

    /// Refuses an attribute of another type.
    pub(crate) fn expect(&self, name: &str, kind: i32) -> Result<(), ReadError> {
        self.typed(name, kind).map(|_| ())
    }
}

#[cfg(test)]
#[path = "attrs_tests.rs"]
mod tests;
