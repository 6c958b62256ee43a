//! Graphs as text.

use super::element;
use super::lex::is_plain;
use super::parse::Pool;
use crate::attrs::{Attr, Attrs};
use crate::dim::Dim;
use crate::graph::{Cond, ConstData, ConstId, Def, Graph, Node, Symbol, SymbolSource, ValueId};
use crate::op::OpId;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;

/// Constants of at most this many elements are listed.
pub(super) const LISTED_MAX: usize = 16;

/// The text of a graph. It is canonical: parsing and printing it again gives the same.
pub fn print(graph: &Graph) -> String {
    let live = live_consts(graph);
    let mut p = Printer { graph, handles: handles(graph, &live), out: String::new() };
    p.header();
    for id in &live {
        p.constant(*id);
    }
    for node in &graph.nodes {
        p.node(node);
    }
    p.guards();
    p.outputs();
    p.out
}

/// The bytes that [`print()`] refers to by hash.
pub fn pool(graph: &Graph) -> Pool {
    let blobs = live_consts(graph).into_iter().filter_map(|id| {
        let constant = &graph.consts[id.0 as usize];
        match &constant.data {
            ConstData::Bytes(data) if !is_listed(data, constant.ty.dtype.size()) => {
                Some((hash(data), data.clone()))
            }
            _ => None,
        }
    });
    blobs.collect()
}

fn is_listed(data: &Bytes, size: usize) -> bool {
    data.len() <= LISTED_MAX * size
}

/// 128-bit FNV-1a of the content, in hexadecimal.
fn hash(data: &[u8]) -> String {
    let offset = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    let step = |h: u128, b: &u8| (h ^ u128::from(*b)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    format!("{:032x}", data.iter().fold(offset, step))
}

/// Constants that a node, an output or the recipe of such a constant uses.
fn live_consts(graph: &Graph) -> BTreeSet<ConstId> {
    let used = graph.nodes.iter().flat_map(|n| &n.args).chain(graph.outputs.iter().map(|o| &o.value));
    let mut stack: Vec<ConstId> = used.filter_map(|v| graph.constant(*v)).collect();
    let mut live = BTreeSet::new();
    while let Some(c) = stack.pop() {
        if live.insert(c)
            && let ConstData::Recipe { args, .. } = &graph.consts[c.0 as usize].data
        {
            stack.extend(args);
        }
    }
    live
}

/// What values are called.
struct Handles {
    values: BTreeMap<ValueId, String>,
    /// Handle and name of each constant.
    consts: BTreeMap<ConstId, (String, String)>,
}

/// Names values in the order of printing: by their name where it is the first of that name, else by a number and, in
/// the definition, the name.
fn handles(graph: &Graph, live: &BTreeSet<ConstId>) -> Handles {
    let (mut taken, mut count) = (BTreeSet::new(), 0u64);
    let mut pick = |name: &str| {
        if !name.is_empty() && taken.insert(name.to_owned()) {
            return format!("%{}", quoted_unless_plain(name));
        }
        count += 1;
        format!("%{}", count - 1)
    };
    let mut values: BTreeMap<ValueId, String> =
        graph.inputs.iter().map(|v| (*v, pick(&graph.value(*v).name))).collect();
    let mut of_const: BTreeMap<ConstId, &str> = BTreeMap::new();
    for value in &graph.values {
        if let Def::Const(c) = value.def {
            of_const.entry(c).or_insert(&value.name);
        }
    }
    let named = live.iter().map(|c| {
        let name = of_const.get(c).copied().unwrap_or("");
        (*c, (pick(name), name.to_owned()))
    });
    let consts = named.collect();
    for v in graph.nodes.iter().flat_map(|n| &n.outs) {
        values.insert(*v, pick(&graph.value(*v).name));
    }
    Handles { values, consts }
}

fn quoted_unless_plain(name: &str) -> String {
    if is_plain(name) { name.into() } else { format!("{name:?}") }
}

/// A handle where it is defined: with the name, if the handle does not say it.
fn definition(handle: &str, name: &str) -> String {
    if name.is_empty() || handle[1..] == quoted_unless_plain(name) {
        handle.into()
    } else {
        format!("{handle} {name:?}")
    }
}

struct Printer<'a> {
    graph: &'a Graph,
    handles: Handles,
    out: String,
}

impl Printer<'_> {
    fn push(&mut self, text: impl AsRef<str>) {
        self.out.push_str(text.as_ref());
    }

    fn handle(&self, v: ValueId) -> String {
        let handle = match self.graph.value(v).def {
            Def::Const(c) => self.handles.consts.get(&c).map(|(h, _)| h),
            _ => self.handles.values.get(&v),
        };
        // Only an invalid graph uses a value that nothing defines; the text then does not parse.
        handle.cloned().unwrap_or_else(|| format!("%undefined_{}", v.0))
    }

    fn header(&mut self) {
        let inputs = self.graph.inputs.iter().map(|v| {
            let value = self.graph.value(*v);
            format!("{}: {}", definition(&self.handle(*v), &value.name), value.ty)
        });
        let inputs = inputs.collect::<Vec<_>>().join(", ");
        let symbols = self.graph.symbols.iter().filter_map(|(name, s)| self.symbol(name, s));
        let symbols = symbols.collect::<Vec<_>>().join(", ");
        let name = quoted_unless_plain(&self.graph.name);
        let symbols = if symbols.is_empty() { symbols } else { format!(" where {symbols}") };
        self.push(format!("graph @{name} ({inputs}){symbols} {{\n"));
    }

    /// The declaration of a symbol; none if its source and bounds are the obvious ones of a symbol in use.
    fn symbol(&self, name: &str, symbol: &Symbol) -> Option<String> {
        let is_obvious = obvious_source(self.graph, name) == Some(symbol.source);
        let is_extent = matches!(symbol.source, SymbolSource::InputDim { .. });
        if is_obvious && is_extent && EXTENT_BOUNDS == (symbol.min, symbol.max) {
            return None;
        }
        let mut text = format!("{} in {}..={}", Dim::sym(name), symbol.min, symbol.max);
        if !is_obvious {
            let (what, at, input) = match symbol.source {
                SymbolSource::InputDim { input, axis } => ("dim", axis, input),
                SymbolSource::InputElem { input, index } => ("element", index, input),
            };
            let handle = self.graph.inputs.get(input).map(|v| self.handle(*v)).unwrap_or_default();
            text += &format!(" from {what} {at} of {handle}");
        }
        Some(text)
    }

    fn constant(&mut self, id: ConstId) {
        let constant = &self.graph.consts[id.0 as usize];
        let (handle, name) = &self.handles.consts[&id];
        let (dtype, size) = (constant.ty.dtype, constant.ty.dtype.size().max(1));
        let data = match &constant.data {
            ConstData::Bytes(data) if is_listed(data, size) => {
                let elements = data.chunks(size).map(|e| element::print(dtype, e));
                format!("[{}]", elements.collect::<Vec<_>>().join(", "))
            }
            ConstData::Bytes(data) => format!("blob \"{}\"", hash(data)),
            ConstData::Splat(element) => format!("splat {}", element::print(dtype, element)),
            ConstData::Recipe { op, attrs, args, out } => {
                let args = args.iter().map(|a| self.handles.consts[a].0.clone()).collect();
                let result = if *out == 0 { String::new() } else { format!(" result {out}") };
                format!("recipe {}{result}", operation(*op, args, attrs))
            }
        };
        self.push(format!("  {} = const {} {data}\n", definition(handle, name), constant.ty));
    }

    fn node(&mut self, node: &Node) {
        let outs = node.outs.iter().map(|v| definition(&self.handle(*v), &self.graph.value(*v).name));
        let outs = outs.collect::<Vec<_>>().join(", ");
        let args = node.args.iter().map(|v| self.handle(*v)).collect();
        let types = node.outs.iter().map(|v| self.graph.ty(*v).to_string()).collect::<Vec<_>>().join(", ");
        let loc = if node.loc.is_empty() { String::new() } else { format!(" loc {:?}", node.loc) };
        let regions =
            if node.regions.is_empty() { String::new() } else { format!(" regions {}", node.regions.len()) };
        self.push(format!("  {outs} = {} : {types}{loc}{regions}\n", operation(node.op, args, &node.attrs)));
    }

    fn guards(&mut self) {
        let implied = crate::graph::implied_guards(self.graph);
        let implied: HashSet<(&Cond, &str)> = implied.iter().map(|g| (&g.cond, g.message.as_str())).collect();
        for guard in self.graph.guards.iter().filter(|g| !implied.contains(&(&g.cond, g.message.as_str()))) {
            let (what, a, b) = match &guard.cond {
                Cond::Eq(a, b) => ("eq", a, b),
                Cond::Le(a, b) => ("le", a, b),
                Cond::Broadcast(a, b) => ("broadcast", a, b),
            };
            let line = format!("  guard {what} {a}, {b} {:?}\n", guard.message);
            self.push(line);
        }
    }

    fn outputs(&mut self) {
        let outputs = self.graph.outputs.iter().map(|o| {
            let handle = self.handle(o.value);
            if o.name == self.graph.value(o.value).name {
                handle
            } else {
                format!("{handle} as {:?}", o.name)
            }
        });
        let outputs = outputs.collect::<Vec<_>>().join(", ");
        self.push(format!("  return{}{outputs}\n}}\n", if outputs.is_empty() { "" } else { " " }));
    }
}

/// Where a symbol comes from unless said otherwise.
pub(super) fn obvious_source(graph: &Graph, name: &str) -> Option<SymbolSource> {
    if let Some((input, index)) = name.rsplit_once('@')
        && let Some(input) = graph.inputs.iter().position(|v| graph.value(*v).name == input)
        && let Ok(number) = index.parse::<usize>()
        && number.to_string() == index
    {
        return Some(SymbolSource::InputElem { input, index: number });
    }
    graph.inputs.iter().enumerate().find_map(|(input, v)| {
        let axis = graph.ty(*v).shape.iter().position(|d| d.as_sym() == Some(name))?;
        Some(SymbolSource::InputDim { input, axis })
    })
}

/// Bounds of an extent unless said otherwise.
pub(super) const EXTENT_BOUNDS: (i64, i64) = (0, i64::MAX);

fn operation(op: OpId, args: Vec<String>, attrs: &Attrs) -> String {
    let mut text = op.name().to_owned();
    for (i, arg) in args.iter().enumerate() {
        text += if i == 0 { " " } else { ", " };
        text += arg;
    }
    let order = op.def().attrs.iter().filter_map(|s| Some((s.name, attrs.get(s.name)?)));
    let attrs = print_attrs(order, ", ");
    if attrs != "{}" {
        text += " ";
        text += &attrs;
    }
    text
}

/// Attributes in braces.
pub(crate) fn print_attrs<'a>(
    attrs: impl Iterator<Item = (&'static str, &'a Attr)>,
    separator: &str,
) -> String {
    let pairs = attrs.map(|(name, value)| format!("{name}={}", attr(value)));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(separator))
}

fn attr(attr: &Attr) -> String {
    fn list<T: std::fmt::Display>(items: &[T]) -> String {
        let mut text = String::from("[");
        for (i, item) in items.iter().enumerate() {
            let _ = write!(text, "{}{item}", if i > 0 { "," } else { "" });
        }
        text + "]"
    }
    match attr {
        Attr::Int(v) => v.to_string(),
        Attr::Float(bits) => element::print(crate::DType::F64, &bits.to_le_bytes()),
        Attr::Str(s) => quoted_unless_plain(s),
        Attr::DType(d) => d.to_string(),
        Attr::Ints(v) => list(v),
        Attr::Dims(v) => list(v),
    }
}
