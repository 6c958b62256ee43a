//! Text to graphs: the entry points, and what all statements are made of (types, dims, attributes).

use super::element;
use super::lex::{Kind, Token, tokens};
use super::statement::graph;
use crate::attrs::{Attr, Attrs};
use crate::dim::{DEPTH_MAX, Dim};
use crate::dtype::DType;
use crate::graph::Graph;
use crate::op::{AttrKind, OpId, TensorType};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Bytes of large constants by the hash that text names them by.
pub type Pool = BTreeMap<String, Bytes>;

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Parses exactly one graph that holds no blob.
pub fn parse(text: &str) -> Result<Graph, Vec<ParseError>> {
    parse_with(text, &Pool::new())
}

/// Parses exactly one graph, taking large constants from a pool.
pub fn parse_with(text: &str, pool: &Pool) -> Result<Graph, Vec<ParseError>> {
    let mut graphs = parse_all(text, pool)?;
    match (graphs.pop(), graphs.len()) {
        (Some(graph), 0) => Ok(graph),
        (_, more) => {
            let count = if more == 0 { 0 } else { more + 1 };
            Err(vec![ParseError { line: 1, message: format!("the text must hold one graph, not {count}") }])
        }
    }
}

/// Parses any number of graphs; on failure all errors, not just the first.
pub fn parse_all(text: &str, pool: &Pool) -> Result<Vec<Graph>, Vec<ParseError>> {
    let tokens = tokens(text).map_err(|(line, message)| vec![ParseError { line, message }])?;
    let (mut cursor, mut graphs, mut errors) = (Cursor::new(tokens), Vec::new(), Vec::new());
    while *cursor.peek() != Kind::End {
        graphs.extend(graph(&mut cursor, pool, &mut errors));
    }
    if errors.is_empty() { Ok(graphs) } else { Err(errors) }
}

/// Parses argument types and attributes of an operator, as in [`crate::OpDef::samples`].
pub fn parse_sample(op: OpId, text: &str) -> Result<(Vec<TensorType>, Attrs), String> {
    let tokens = tokens(text).map_err(|(_, message)| message)?;
    let mut c = Cursor::new(tokens);
    let mut types = Vec::new();
    while matches!(c.peek(), Kind::Word(_)) {
        types.push(c.ty()?);
        c.take(",");
    }
    let attrs = c.attrs(op)?;
    if *c.peek() == Kind::End { Ok((types, attrs)) } else { Err(format!("unexpected {}", c.found())) }
}

/// Parses attributes of an operator in braces, as they are printed.
pub fn parse_attrs(op: OpId, text: &str) -> Result<Attrs, String> {
    let (types, attrs) = parse_sample(op, text)?;
    if types.is_empty() { Ok(attrs) } else { Err("attributes come without types".into()) }
}

/// A position in the tokens of a text.
pub(super) struct Cursor {
    tokens: Vec<Token>,
    at: usize,
}

/// Dims whose text nests deeper are refused before they are computed.
const DIM_DEPTH_MAX: usize = DEPTH_MAX as usize;

impl Cursor {
    pub(super) fn new(tokens: Vec<Token>) -> Cursor {
        Cursor { tokens, at: 0 }
    }

    fn token(&self) -> &Token {
        // The last token is `End`, which nothing moves beyond.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    pub(super) fn peek(&self) -> &Kind {
        &self.token().kind
    }

    pub(super) fn line(&self) -> usize {
        self.token().line
    }

    pub(super) fn next(&mut self) -> Kind {
        let kind = self.peek().clone();
        self.at += 1;
        kind
    }

    /// Moves beyond the line of the current statement.
    pub(super) fn skip_line(&mut self, line: usize) {
        while *self.peek() != Kind::End && self.line() <= line {
            self.at += 1;
        }
    }

    /// Moves to the next start of a graph.
    pub(super) fn skip_to_graph(&mut self) {
        while *self.peek() != Kind::End {
            let follows = self.tokens.get(self.at + 1).map(|t| &t.kind);
            if *self.peek() == Kind::Word("graph".into()) && follows == Some(&Kind::Punct("@")) {
                return;
            }
            self.at += 1;
        }
    }

    /// The next token, for messages.
    pub(super) fn found(&self) -> String {
        match self.peek() {
            Kind::Word(s) | Kind::Number(s) => format!("`{s}`"),
            Kind::Str(s) => format!("{s:?}"),
            Kind::Named(s) => format!("`%{s}`"),
            Kind::Numbered(n) => format!("`%{n}`"),
            Kind::Punct(p) => format!("`{p}`"),
            Kind::End => "the end of the text".into(),
        }
    }

    /// Consumes this punctuation if it is next.
    pub(super) fn take(&mut self, punct: &str) -> bool {
        let found = matches!(self.peek(), Kind::Punct(p) if *p == punct);
        self.at += usize::from(found);
        found
    }

    /// Consumes this word if it is next.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Kind::Word(w) if w == word);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, punct: &str) -> Result<(), String> {
        if self.take(punct) { Ok(()) } else { Err(format!("expected `{punct}`, found {}", self.found())) }
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Result<(), String> {
        if self.take_word(word) { Ok(()) } else { Err(format!("expected `{word}`, found {}", self.found())) }
    }

    pub(super) fn word(&mut self) -> Result<String, String> {
        match self.peek() {
            Kind::Word(_) => match self.next() {
                Kind::Word(w) => Ok(w),
                _ => Err("expected a word".into()),
            },
            _ => Err(format!("expected a word, found {}", self.found())),
        }
    }

    /// A word or a quoted string.
    pub(super) fn name(&mut self) -> Result<String, String> {
        self.string().map_or_else(|| self.word(), Ok)
    }

    /// A quoted string, if one is next.
    pub(super) fn string(&mut self) -> Option<String> {
        let Kind::Str(s) = self.peek().clone() else { return None };
        self.at += 1;
        Some(s)
    }

    pub(super) fn int(&mut self) -> Result<i64, String> {
        let text = self.element_text()?;
        text.parse().map_err(|_| format!("`{text}` is not an integer of 64 bits"))
    }

    pub(super) fn index(&mut self) -> Result<usize, String> {
        let v = self.int()?;
        usize::try_from(v).map_err(|_| format!("{v} is no index"))
    }

    /// A signed number, infinity or NaN, as written.
    pub(super) fn element_text(&mut self) -> Result<String, String> {
        let sign = if self.take("-") { "-" } else { "" };
        match self.peek().clone() {
            Kind::Number(s) | Kind::Word(s) => {
                self.at += 1;
                Ok(format!("{sign}{s}"))
            }
            _ => Err(format!("expected a number, found {}", self.found())),
        }
    }

    /// Items between brackets.
    pub(super) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Cursor) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        self.expect("[")?;
        let mut items = Vec::new();
        while !self.take("]") {
            if !items.is_empty() {
                self.expect(",")?;
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    pub(super) fn ty(&mut self) -> Result<TensorType, String> {
        let dtype: DType = self.word()?.parse()?;
        Ok(TensorType::new(dtype, self.list(Cursor::dim)?))
    }

    /// A symbolic integer.
    pub(super) fn dim(&mut self) -> Result<Dim, String> {
        let dim = self.sum(DIM_DEPTH_MAX)?;
        if dim.is_sane() { Ok(dim) } else { Err(format!("{dim} overflows or is too complex")) }
    }

    fn sum(&mut self, depth: usize) -> Result<Dim, String> {
        let mut sum = self.product(depth, false)?;
        loop {
            let negative = match self.peek() {
                Kind::Punct("+") => false,
                Kind::Punct("-") => true,
                _ => return Ok(sum),
            };
            self.at += 1;
            sum = &sum + &self.product(depth, negative)?;
        }
    }

    fn product(&mut self, depth: usize, negative: bool) -> Result<Dim, String> {
        let negative = self.take("-") != negative;
        // The sign belongs to the number, because the smallest integer has no positive counterpart.
        let mut product = match self.peek().clone() {
            Kind::Number(digits) => {
                self.at += 1;
                let text = if negative { format!("-{digits}") } else { digits };
                Dim::from(text.parse::<i64>().map_err(|_| format!("`{text}` is not an integer of 64 bits"))?)
            }
            _ if negative => &Dim::from(-1) * &self.factor(depth)?,
            _ => self.factor(depth)?,
        };
        while self.take("*") {
            product = &product * &self.factor(depth)?;
        }
        Ok(product)
    }

    fn factor(&mut self, depth: usize) -> Result<Dim, String> {
        let depth = depth.checked_sub(1).ok_or("a dim is nested too deeply")?;
        match self.peek().clone() {
            Kind::Number(_) => Ok(self.int()?.into()),
            Kind::Str(name) => {
                self.at += 1;
                Ok(Dim::sym(&name))
            }
            Kind::Word(name) => {
                self.at += 1;
                if self.take("(") { self.function(&name, depth) } else { Ok(Dim::sym(&name)) }
            }
            Kind::Punct("(") => {
                self.at += 1;
                let inner = self.sum(depth)?;
                self.expect(")")?;
                Ok(inner)
            }
            _ => Err(format!("expected a dim, found {}", self.found())),
        }
    }

    fn function(&mut self, name: &str, depth: usize) -> Result<Dim, String> {
        let a = self.sum(depth)?;
        self.expect(",")?;
        let b = self.sum(depth)?;
        self.expect(")")?;
        let result = match name {
            "floordiv" => a.floor_div(&b),
            "mod" => a.modulo(&b),
            "min" => Some(a.smaller(&b)),
            "max" => Some(a.larger(&b)),
            "eq" => Some(a.equals(&b)),
            "broadcast" => a.broadcast(&b),
            _ => return Err(format!("unknown function `{name}`")),
        };
        result.ok_or_else(|| format!("{name}({a}, {b}) has no value"))
    }

    /// The attributes of an operator in braces, or none.
    pub(super) fn attrs(&mut self, op: OpId) -> Result<Attrs, String> {
        let mut pairs: Vec<(&'static str, Attr)> = Vec::new();
        if !self.take("{") {
            return Ok(Attrs::default());
        }
        while !self.take("}") {
            if !pairs.is_empty() {
                self.expect(",")?;
            }
            let name = self.word()?;
            let spec = op.def().attrs.iter().find(|s| s.name == name);
            let spec = spec.ok_or_else(|| format!("{} has no attribute `{name}`", op.name()))?;
            if pairs.iter().any(|(n, _)| *n == spec.name) {
                return Err(format!("attribute `{name}` is given twice"));
            }
            self.expect("=")?;
            pairs.push((spec.name, self.attr(spec.kind)?));
        }
        Ok(Attrs::new(pairs))
    }

    fn attr(&mut self, kind: AttrKind) -> Result<Attr, String> {
        Ok(match kind {
            AttrKind::Int => Attr::Int(self.int()?),
            AttrKind::Float => {
                let bytes = element::parse(DType::F64, &self.element_text()?)?;
                Attr::Float(bytes.iter().rev().fold(0, |bits, b| bits << 8 | u64::from(*b)))
            }
            AttrKind::Str => Attr::Str(self.name()?.into()),
            AttrKind::DType => Attr::DType(self.word()?.parse()?),
            AttrKind::Ints => Attr::Ints(self.list(Cursor::int)?),
            AttrKind::Dims => Attr::Dims(self.list(Cursor::dim)?),
        })
    }
}
