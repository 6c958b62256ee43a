//! Graphs and their statements.

use super::element;
use super::lex::Kind;
use super::parse::{Cursor, ParseError, Pool};
use super::print::{EXTENT_BOUNDS, obvious_source};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::{
    CONTENT_ELEMS_MAX, Cond, Const, ConstData, ConstId, Graph, Guard, Output, SymbolSource, ValueId, content,
};
use crate::op::{OpId, TensorType};
use crate::tensor::numel;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How text calls a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Handle {
    Named(String),
    Numbered(u64),
}

/// Why a statement failed; nothing when the cause was reported where a value that it uses was defined.
struct Failure(Option<String>);

impl<S: Into<String>> From<S> for Failure {
    fn from(message: S) -> Failure {
        Failure(Some(message.into()))
    }
}

type Outcome<T> = Result<T, Failure>;

struct Parser<'a> {
    c: &'a mut Cursor,
    pool: &'a Pool,
    graph: Graph,
    /// Values by handle; none for those whose definition failed.
    scope: BTreeMap<Handle, Option<ValueId>>,
    returned: bool,
}

/// Parses one graph; errors are appended, and the cursor is then beyond what could not be read.
pub(super) fn graph(c: &mut Cursor, pool: &Pool, errors: &mut Vec<ParseError>) -> Option<Graph> {
    let before = errors.len();
    let line = c.line();
    let mut p = Parser { c, pool, graph: Graph::default(), scope: BTreeMap::new(), returned: false };
    if let Err(Failure(message)) = p.header() {
        errors.extend(message.map(|message| ParseError { line, message }));
        p.c.next();
        p.c.skip_to_graph();
        return None;
    }
    loop {
        let line = p.c.line();
        if p.c.take("}") {
            break;
        }
        if *p.c.peek() == Kind::End {
            errors.push(ParseError { line, message: "the graph does not end".into() });
            break;
        }
        if let Err(Failure(message)) = p.statement() {
            errors.extend(message.map(|message| ParseError { line, message }));
            p.c.skip_line(line);
        }
    }
    if !p.returned && errors.len() == before {
        errors.push(ParseError { line, message: "the graph has no `return`".into() });
    }
    (errors.len() == before).then_some(p.graph)
}

impl Parser<'_> {
    fn header(&mut self) -> Outcome<()> {
        self.c.expect_word("graph")?;
        self.c.expect("@")?;
        self.graph.name = self.c.name()?;
        self.c.expect("(")?;
        while !self.c.take(")") {
            if !self.graph.inputs.is_empty() {
                self.c.expect(",")?;
            }
            let (handle, name) = self.definition()?;
            self.c.expect(":")?;
            let ty = self.c.ty()?;
            let v = self.graph.add_input(&name, ty);
            self.define(handle, v)?;
        }
        if self.c.take_word("where") {
            self.symbol()?;
            while self.c.take(",") {
                self.symbol()?;
            }
        }
        self.implied_symbols()?;
        self.input_contents();
        Ok(self.c.expect("{")?)
    }

    fn symbol(&mut self) -> Outcome<()> {
        let name = self.c.name()?;
        self.c.expect_word("in")?;
        let min = self.c.int()?;
        self.c.expect("..=")?;
        let max = self.c.int()?;
        let source = match self.c.take_word("from") {
            true => self.source()?,
            false => obvious_source(&self.graph, &name)
                .ok_or_else(|| format!("no input gives the symbol `{name}`"))?,
        };
        if self.graph.symbols.contains_key(name.as_str()) {
            return Err(format!("the symbol `{name}` is declared twice").into());
        }
        self.graph.add_symbol(&name, source, min, max);
        Ok(())
    }

    fn source(&mut self) -> Outcome<SymbolSource> {
        let what = self.c.word()?;
        let at = self.c.index()?;
        self.c.expect_word("of")?;
        let v = self.value()?;
        let input =
            self.graph.inputs.iter().position(|i| *i == v).ok_or("a symbol must come from an input")?;
        match what.as_str() {
            "dim" => Ok(SymbolSource::InputDim { input, axis: at }),
            "element" => Ok(SymbolSource::InputElem { input, index: at }),
            _ => Err(format!("a symbol comes from a `dim` or an `element`, not `{what}`").into()),
        }
    }

    /// Declares the extents that input types name.
    fn implied_symbols(&mut self) -> Outcome<()> {
        let mut used = BTreeSet::new();
        let types = self.graph.inputs.iter().map(|v| self.graph.ty(*v));
        types.flat_map(|t| &t.shape).for_each(|d| d.symbols(&mut used));
        used.retain(|name| !self.graph.symbols.contains_key(name));
        for name in used {
            match obvious_source(&self.graph, &name) {
                Some(source @ SymbolSource::InputDim { .. }) => {
                    self.graph.add_symbol(&name, source, EXTENT_BOUNDS.0, EXTENT_BOUNDS.1);
                }
                _ => return Err(format!("the symbol `{name}` is not declared").into()),
            }
        }
        Ok(())
    }

    /// Contents of the inputs whose elements all have symbols.
    fn input_contents(&mut self) {
        for (i, v) in self.graph.inputs.clone().into_iter().enumerate() {
            let Some(count) = self.graph.ty(v).numel().as_usize().filter(|n| *n <= CONTENT_ELEMS_MAX) else {
                continue;
            };
            let of = |index| {
                let source = SymbolSource::InputElem { input: i, index };
                self.graph.symbols.iter().find(|(_, s)| s.source == source).map(|(name, _)| Dim::sym(name))
            };
            let content: Option<Vec<Dim>> = (0..count).map(of).collect();
            if self
                .graph
                .symbols
                .values()
                .any(|s| matches!(s.source, SymbolSource::InputElem { input, .. } if input == i))
            {
                self.graph.values[v.0 as usize].content = content;
            }
        }
    }

    fn handle(&mut self) -> Outcome<Handle> {
        let handle = match self.c.peek() {
            Kind::Named(name) => Handle::Named(name.clone()),
            Kind::Numbered(n) => Handle::Numbered(*n),
            _ => return Err(format!("expected a value, found {}", self.c.found()).into()),
        };
        self.c.next();
        Ok(handle)
    }

    /// A handle where it is defined, and the value's name.
    fn definition(&mut self) -> Outcome<(Handle, String)> {
        let handle = self.handle()?;
        let name = match &handle {
            Handle::Named(name) => name.clone(),
            Handle::Numbered(_) => self.c.string().unwrap_or_default(),
        };
        Ok((handle, name))
    }

    fn define(&mut self, handle: Handle, v: ValueId) -> Outcome<()> {
        match self.scope.insert(handle, Some(v)) {
            Some(Some(_)) => Err("a value is defined twice".into()),
            _ => Ok(()),
        }
    }

    /// A value that is defined.
    fn value(&mut self) -> Outcome<ValueId> {
        let found = self.c.found();
        let handle = self.handle()?;
        match self.scope.get(&handle) {
            Some(Some(v)) => Ok(*v),
            Some(None) => Err(Failure(None)),
            None => Err(format!("{found} is not defined").into()),
        }
    }

    fn statement(&mut self) -> Outcome<()> {
        if self.returned {
            return Err("nothing may follow `return`".into());
        }
        if self.c.take_word("guard") {
            return self.guard();
        }
        if self.c.take_word("return") {
            return self.outputs();
        }
        let mut names = vec![self.definition()?];
        while self.c.take(",") {
            names.push(self.definition()?);
        }
        self.c.expect("=")?;
        let made = match self.c.take_word("const") {
            true => self.constant(&names),
            false => self.node(),
        };
        let made = made.and_then(|values| match values.len() == names.len() {
            true => Ok(values),
            false => Err(format!("{} values for {} results", names.len(), values.len()).into()),
        });
        match made {
            Ok(values) => names.into_iter().zip(values).try_for_each(|((handle, name), v)| {
                self.graph.values[v.0 as usize].name = name;
                self.define(handle, v)
            }),
            Err(failure) => {
                self.scope.extend(names.into_iter().map(|(handle, _)| (handle, None)));
                Err(failure)
            }
        }
    }

    fn guard(&mut self) -> Outcome<()> {
        let what = self.c.word()?;
        let a = self.c.dim()?;
        self.c.expect(",")?;
        let b = self.c.dim()?;
        let cond = match what.as_str() {
            "eq" => Cond::Eq(a, b),
            "le" => Cond::Le(a, b),
            "broadcast" => Cond::Broadcast(a, b),
            _ => return Err(format!("unknown condition `{what}`").into()),
        };
        let message = self.c.string().ok_or("a guard needs a message")?;
        self.graph.guards.push(Guard { cond, message });
        Ok(())
    }

    fn outputs(&mut self) -> Outcome<()> {
        self.returned = true;
        while matches!(self.c.peek(), Kind::Named(_) | Kind::Numbered(_)) {
            let value = self.value()?;
            let name = match self.c.take_word("as") {
                true => self.c.string().ok_or("an output name is a string")?,
                false => self.graph.value(value).name.clone(),
            };
            self.graph.outputs.push(Output { name, value });
            if !self.c.take(",") {
                break;
            }
        }
        Ok(())
    }

    fn operator(&mut self) -> Outcome<(OpId, Vec<ValueId>, crate::Attrs)> {
        let name = self.c.word()?;
        let op = OpId::of(&name).ok_or_else(|| format!("unknown operator `{name}`"))?;
        let mut args = Vec::new();
        while matches!(self.c.peek(), Kind::Named(_) | Kind::Numbered(_)) {
            args.push(self.value()?);
            if !self.c.take(",") {
                break;
            }
        }
        Ok((op, args, self.c.attrs(op)?))
    }

    fn node(&mut self) -> Outcome<Vec<ValueId>> {
        let (op, args, attrs) = self.operator()?;
        let mut types = Vec::new();
        if self.c.take(":") {
            types.push(self.c.ty()?);
            while self.c.take(",") {
                types.push(self.c.ty()?);
            }
        }
        let loc: Arc<str> = match self.c.take_word("loc") {
            true => self.c.string().ok_or("a location is a string")?.into(),
            false => "".into(),
        };
        let values = self.graph.add(op, attrs, args, &loc).map_err(|e| format!("{}: {e}", op.name()))?;
        let inferred: Vec<&TensorType> = values.iter().map(|v| self.graph.ty(*v)).collect();
        if !types.is_empty() && !types.iter().eq(inferred.iter().copied()) {
            let show = |t: Vec<&TensorType>| t.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(", ");
            return Err(format!(
                "{}: gives {}, not {}",
                op.name(),
                show(inferred),
                show(types.iter().collect())
            )
            .into());
        }
        Ok(values)
    }

    fn constant(&mut self, names: &[(Handle, String)]) -> Outcome<Vec<ValueId>> {
        if names.len() != 1 {
            return Err("a constant is one value".into());
        }
        let ty = self.c.ty()?;
        let shape = ty.concrete().ok_or_else(|| format!("the type {ty} of a constant is not concrete"))?;
        if ty.dtype == DType::Str {
            return Err("strings are no constants".into());
        }
        let (dtype, count) = (ty.dtype, numel(&shape).ok_or_else(|| format!("{ty} is too large"))?);
        if matches!(self.c.peek(), Kind::Punct("[")) {
            let elements = self.c.list(|c| element::parse(dtype, &c.element_text()?))?;
            if elements.len() != count {
                return Err(format!("{} elements for {ty}", elements.len()).into());
            }
            return Ok(vec![self.dense(ty, elements.concat().into())]);
        }
        match self.c.word()?.as_str() {
            "splat" => {
                let element = element::parse(dtype, &self.c.element_text()?)?;
                let known = self.elements(&ty, &element).filter(|_| count <= CONTENT_ELEMS_MAX);
                let known = known.and_then(|d| Some(vec![d.first()?.clone(); count]));
                let data = ConstData::Splat(element.into());
                Ok(vec![self.graph.add_lazy_const("", Const { ty, data }, known)])
            }
            "blob" => {
                let hash = self.c.string().ok_or("a blob has a hash")?;
                let data = self.pool.get(&hash).cloned();
                let data =
                    data.ok_or_else(|| format!("the bytes of the constant {hash:?} are not at hand"))?;
                if Some(data.len()) != count.checked_mul(dtype.size()) {
                    return Err(format!("{ty} does not take the {} bytes of {hash:?}", data.len()).into());
                }
                Ok(vec![self.dense(ty, data)])
            }
            "recipe" => self.recipe(ty),
            other => Err(format!("unknown kind of constant `{other}`").into()),
        }
    }

    fn dense(&mut self, ty: TensorType, data: Bytes) -> ValueId {
        let known = self.elements(&ty, &data).filter(|d| d.len() <= CONTENT_ELEMS_MAX);
        self.graph.add_lazy_const("", Const { ty, data: ConstData::Bytes(data) }, known)
    }

    /// Elements of an integer or bool constant as dims.
    fn elements(&self, ty: &TensorType, data: &[u8]) -> Option<Vec<Dim>> {
        if ty.dtype.is_float() || data.len() > CONTENT_ELEMS_MAX * ty.dtype.size() {
            return None;
        }
        let element = |e: &[u8]| i64::try_from(crate::encode::int(ty.dtype, e)).ok().map(Dim::from);
        data.chunks(ty.dtype.size()).map(element).collect()
    }

    fn recipe(&mut self, ty: TensorType) -> Outcome<Vec<ValueId>> {
        let (op, values, attrs) = self.operator()?;
        let out = if self.c.take_word("result") { self.c.index()? } else { 0 };
        let args: Option<Vec<ConstId>> = values.iter().map(|v| self.graph.constant(*v)).collect();
        let args = args.ok_or("a recipe uses constants only")?;
        let tys: Vec<&TensorType> = values.iter().map(|v| self.graph.ty(*v)).collect();
        let (types, _) = crate::graph::infer(op, &attrs, &tys).map_err(|e| format!("{}: {e}", op.name()))?;
        match types.get(out) {
            Some(got) if *got == ty => {}
            Some(got) => return Err(format!("{}: gives {got}, not {ty}", op.name()).into()),
            None => return Err(format!("{} has no result {out}", op.name()).into()),
        }
        let contents: Vec<_> = values.iter().map(|v| self.graph.value(*v).content.as_deref()).collect();
        let known = if out == 0 { content(op, &attrs, &tys, &contents, &ty) } else { None };
        let data = ConstData::Recipe { op, attrs, args, out };
        Ok(vec![self.graph.add_lazy_const("", Const { ty, data }, known)])
    }
}
