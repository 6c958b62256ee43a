//! A graph under construction, with the names that the TorchScript exporter gives.

use crate::weights::{Init, Parameter};
use crate::{Error, Model};
use autoglm_compiler::onnx::proto::{
    AttributeProto, Dimension, DimensionValue, GraphProto, NodeProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_type, type_proto,
};
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// The operator sets that models can be written for: from 13 on axes are inputs as they are today.
pub const OPSETS: RangeInclusive<i64> = 13..=21;

pub(crate) const F32: i32 = 1;
pub(crate) const I64: i32 = 7;
pub(crate) const BOOL: i32 = 9;

/// An extent of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Known when the model is written.
    Fixed(i64),
    /// A named symbol.
    Named(String),
}

impl From<i64> for Extent {
    fn from(v: i64) -> Extent {
        Extent::Fixed(v)
    }
}

impl From<&str> for Extent {
    fn from(name: &str) -> Extent {
        Extent::Named(name.to_owned())
    }
}

impl std::str::FromStr for Extent {
    type Err = String;

    fn from_str(text: &str) -> Result<Extent, String> {
        match text.parse::<i64>() {
            Ok(v) if v < 1 => Err(format!("an extent must be positive, not {v}")),
            Ok(v) => Ok(Extent::Fixed(v)),
            Err(_) if text.is_empty() => Err("an extent needs a number or a name".into()),
            Err(_) => Ok(Extent::Named(text.to_owned())),
        }
    }
}

pub(crate) fn int(name: &str, v: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: attribute_type::INT, i: Some(v), ..AttributeProto::default() }
}

pub(crate) fn ints(name: &str, v: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: attribute_type::INTS,
        ints: v.into(),
        ..AttributeProto::default()
    }
}

pub(crate) fn float(name: &str, v: f32) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: attribute_type::FLOAT,
        f: Some(v),
        ..AttributeProto::default()
    }
}

pub(crate) fn text(name: &str, v: &'static str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: attribute_type::STRING,
        s: Some(v.as_bytes().into()),
        ..AttributeProto::default()
    }
}

pub(crate) fn tensor(name: &str, v: TensorProto) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: attribute_type::TENSOR,
        t: Some(Box::new(v)),
        ..AttributeProto::default()
    }
}

pub(crate) fn i64_tensor(dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto { dims: dims.into(), data_type: I64, int64_data: values.into(), ..TensorProto::default() }
}

pub(crate) fn f32_scalar(value: f32) -> TensorProto {
    TensorProto { data_type: F32, float_data: vec![value], ..TensorProto::default() }
}

/// A graph under construction.
pub(crate) struct Builder {
    graph: GraphProto,
    parameters: Vec<Parameter>,
    opset: i64,
    scope: String,
    /// How many nodes have a name, so that each is used once.
    used: HashMap<String, usize>,
}

fn info(name: &str, elem: i32, dims: &[Extent]) -> ValueInfoProto {
    let value = |e: &Extent| match e {
        Extent::Fixed(v) => DimensionValue::DimValue(*v),
        Extent::Named(n) => DimensionValue::DimParam(n.clone()),
    };
    let dim = dims.iter().map(|e| Dimension { value: Some(value(e)), ..Dimension::default() }).collect();
    let tensor = type_proto::Tensor { elem_type: elem, shape: Some(TensorShapeProto { dim }) };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(ty), ..ValueInfoProto::default() }
}

impl Builder {
    pub(crate) fn new(name: &str, opset: i64) -> Result<Builder, Error> {
        if !OPSETS.contains(&opset) {
            let (lo, hi) = (OPSETS.start(), OPSETS.end());
            return Err(Error::Setting(format!("operator set {opset} is not in {lo}..={hi}")));
        }
        Ok(Builder {
            graph: GraphProto { name: name.into(), ..GraphProto::default() },
            parameters: Vec::new(),
            opset,
            scope: String::new(),
            used: HashMap::new(),
        })
    }

    pub(crate) fn opset(&self) -> i64 {
        self.opset
    }

    /// Names of the nodes that follow start with this path, such as `/layer1/conv1`.
    pub(crate) fn scope(&mut self, path: &str) {
        path.clone_into(&mut self.scope);
    }

    pub(crate) fn input(&mut self, name: &str, elem: i32, dims: &[Extent]) -> String {
        self.graph.input.push(info(name, elem, dims));
        name.to_owned()
    }

    pub(crate) fn output(&mut self, name: &str, dims: &[Extent]) {
        self.graph.output.push(info(name, F32, dims));
    }

    /// Adds a node with one result, whose name it gives.
    pub(crate) fn node(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let name = self.name(op);
        let output = format!("{name}_output_0");
        self.push(name, op, inputs, attributes, &output);
        output
    }

    /// As [`Builder::node`], with the result's name given.
    pub(crate) fn last(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>, output: &str) {
        let name = self.name(op);
        self.push(name, op, inputs, attributes, output);
    }

    fn name(&mut self, op: &str) -> String {
        let base = format!("{}/{op}", self.scope);
        let count = self.used.entry(base.clone()).or_insert(0);
        *count += 1;
        if *count == 1 { base } else { format!("{base}_{}", *count - 1) }
    }

    fn push(
        &mut self,
        name: String,
        op: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
        output: &str,
    ) {
        self.graph.node.push(NodeProto {
            name,
            op_type: op.into(),
            input: inputs.iter().map(|i| (*i).to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute,
            ..NodeProto::default()
        });
    }

    pub(crate) fn constant(&mut self, value: TensorProto) -> String {
        self.node("Constant", &[], vec![tensor("value", value)])
    }

    pub(crate) fn i64s(&mut self, values: &[i64]) -> String {
        self.constant(i64_tensor(&[values.len() as i64], values))
    }

    pub(crate) fn i64(&mut self, value: i64) -> String {
        self.constant(i64_tensor(&[], &[value]))
    }

    pub(crate) fn f32(&mut self, value: f32) -> String {
        self.constant(f32_scalar(value))
    }

    /// The extent of an axis as a rank-0 tensor.
    pub(crate) fn extent_of(&mut self, x: &str, axis: i64) -> String {
        let shape = self.node("Shape", &[x], vec![]);
        let index = self.i64(axis);
        self.node("Gather", &[&shape, &index], vec![int("axis", 0)])
    }

    pub(crate) fn unsqueeze(&mut self, x: &str, axis: i64) -> String {
        let axes = self.i64s(&[axis]);
        self.node("Unsqueeze", &[x, &axes], vec![])
    }

    fn parameter(
        &mut self,
        name: &str,
        dims: &[usize],
        init: Init,
        transposed: bool,
        statistic: bool,
    ) -> String {
        let parameter = Parameter { name: name.into(), dims: dims.into(), init, transposed, statistic };
        let initializer = parameter.initializer();
        self.parameters.push(parameter);
        initializer
    }

    /// A learned tensor.
    pub(crate) fn weight(&mut self, name: &str, dims: &[usize], init: Init) -> String {
        self.parameter(name, dims, init, false, false)
    }

    /// A learned matrix that the model stores transposed.
    pub(crate) fn transposed(&mut self, name: &str, dims: [usize; 2], init: Init) -> String {
        self.parameter(name, &dims, init, true, false)
    }

    /// A statistic of training.
    pub(crate) fn statistic(&mut self, name: &str, dims: &[usize], init: Init) -> String {
        self.parameter(name, dims, init, false, true)
    }

    /// BatchNormalization of `channels` channels with the four tensors under `path`.
    pub(crate) fn batch_norm(&mut self, x: &str, path: &str, channels: usize, gamma: f64) -> String {
        let gamma = self.weight(
            &format!("{path}.weight"),
            &[channels],
            Init::Normal { mean: gamma, std: 0.1 * gamma },
        );
        let beta = self.weight(&format!("{path}.bias"), &[channels], Init::near(0.0));
        let mean = self.statistic(&format!("{path}.running_mean"), &[channels], Init::near(0.0));
        let spread = Init::Uniform { lo: 0.8, hi: 1.2 };
        let variance = self.statistic(&format!("{path}.running_var"), &[channels], spread);
        let attributes = vec![float("epsilon", 1e-5), float("momentum", 0.9)];
        self.node("BatchNormalization", &[x, &gamma, &beta, &mean, &variance], attributes)
    }

    pub(crate) fn finish(self) -> Model {
        Model { graph: self.graph, opset: self.opset, parameters: self.parameters }
    }
}
