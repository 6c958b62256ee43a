//! Patterns over e-graphs: text, and matching by backtracking.
//!
//! A pattern is an S-expression over operator names: `(mul ?x (sigmoid ?x))`. Operators that commute match in either
//! order of their arguments, so no rule has to state it and no commuted nodes fill the e-graph. The atoms are
//!
//! | atom | matches |
//! |---|---|
//! | `?x` | any tensor; the same one wherever the name stands |
//! | `?c:const` | a constant tensor |
//! | `?s:scalar` | a tensor whose elements are all one known number |
//! | `?y=(exp ?x)` | what the expression matches, under a name |
//! | `0.5` | a tensor whose elements are all that number; one that f32 does not hold exactly, to a relative 1e-6 |
//!
//! `(unary ?x)` and `(binary ?x ?y)` stand for any elementwise operator of so many arguments, the same one in the whole pattern.
//! `(transpose:p ?x)` binds the attributes as `p`; `(softmax{log=0} ?x)` requires some. `(result#1 (top_k ?x))` is one result of
//! an operator with several.

use autoglm_ir::egraph::{EGraph, ENode};
use autoglm_ir::op::Fusion;
use autoglm_ir::{Attr, Attrs, OpId};
use egg::{Id, Language};

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    root: Term,
    vars: Vec<String>,
    attrs: Vec<String>,
}

#[derive(Clone, Debug)]
enum Term {
    Var {
        slot: usize,
        is: Needs,
    },
    /// A variable for what a term matches.
    As(usize, Box<Term>),
    Number(f64),
    Op {
        op: OpTerm,
        attrs: AttrTerm,
        args: Vec<Term>,
    },
}

impl Term {
    /// The term itself, without the name that it has.
    fn unnamed(&self) -> &Term {
        match self {
            Term::As(_, term) => term.unnamed(),
            term => term,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum OpTerm {
    Is(OpId),
    /// Any elementwise operator of this many arguments.
    Elementwise(usize),
    /// One result of an operator with several.
    Result(u32),
}

impl OpTerm {
    fn admits(self, op: OpId) -> bool {
        match self {
            OpTerm::Is(this) => this == op,
            OpTerm::Elementwise(_) => op.def().class == Fusion::Elementwise,
            OpTerm::Result(_) => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Needs {
    Nothing,
    Constant,
    Scalar,
}

#[derive(Clone, Debug)]
enum AttrTerm {
    Any,
    Bind(usize),
    Require(Attrs),
}

/// What a match bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Bindings {
    /// The class that matched as a whole.
    pub(crate) root: Id,
    vars: Vec<Option<Id>>,
    attrs: Vec<Option<Attrs>>,
    /// The operator that a wildcard stands for, with its attributes.
    any: Option<(OpId, Attrs)>,
}

/// How far a search may go for one root, so that a pattern cannot explode on a class of many nodes.
const STEPS_MAX: usize = 20_000;

/// Operators whose two arguments may be swapped.
pub(crate) fn commutes(op: OpId) -> bool {
    matches!(op.name(), "add" | "mul" | "max" | "min" | "and" | "or" | "xor" | "eq")
}

impl Pattern {
    /// From text.
    pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
        let mut parser = Parser { rest: text, vars: Vec::new(), attrs: Vec::new() };
        let root = parser.term()?;
        parser.space();
        if !parser.rest.is_empty() {
            return Err(format!("`{}` follows the pattern", parser.rest));
        }
        Ok(Pattern { root, vars: parser.vars, attrs: parser.attrs })
    }

    /// The slot of a variable.
    pub(crate) fn var(&self, name: &str) -> Option<usize> {
        self.vars.iter().position(|v| v == name)
    }

    /// The slot of bound attributes.
    pub(crate) fn attr(&self, name: &str) -> Option<usize> {
        self.attrs.iter().position(|v| v == name)
    }

    /// The classes that a match may start from, in order.
    pub(crate) fn roots(&self, egraph: &EGraph) -> Vec<Id> {
        let Term::Op { op, args, .. } = self.root.unnamed() else { return Vec::new() };
        let like = match op {
            OpTerm::Is(op) => ENode::Op(*op, std::iter::repeat_n(Id::from(0), args.len() + 1).collect()),
            OpTerm::Result(i) => ENode::Result(*i, [Id::from(0)]),
            OpTerm::Elementwise(_) => {
                let mut all: Vec<Id> = egraph.classes().map(|c| egraph.find(c.id)).collect();
                all.sort_unstable();
                return all;
            }
        };
        let mut roots: Vec<Id> = egraph
            .classes_for_op(&like.discriminant())
            .into_iter()
            .flatten()
            .map(|c| egraph.find(c))
            .collect();
        roots.sort_unstable();
        roots.dedup();
        roots
    }

    /// All matches at a class, and the most operators of the pattern that held together when there is none.
    pub(crate) fn matches(&self, egraph: &EGraph, root: Id) -> (Vec<Bindings>, usize) {
        let bindings = Bindings {
            root,
            vars: vec![None; self.vars.len()],
            attrs: vec![None; self.attrs.len()],
            any: None,
        };
        let mut search = Search { egraph, bindings, found: Vec::new(), steps: 0, held: 0, best: 0 };
        search.solve(&mut vec![(&self.root, root)]);
        (search.found, search.best)
    }

    /// How many operators the pattern has.
    pub(crate) fn size(&self) -> usize {
        fn count(term: &Term) -> usize {
            match term.unnamed() {
                Term::Op { args, .. } => 1 + args.iter().map(count).sum::<usize>(),
                _ => 0,
            }
        }
        count(&self.root)
    }

    /// Builds the pattern's own expression from the variables of a match of another pattern.
    pub(crate) fn build<M: Make>(&self, make: &mut M) -> Result<Id, M::Error> {
        self.build_term(&self.root, make)
    }

    fn build_term<M: Make>(&self, term: &Term, make: &mut M) -> Result<Id, M::Error> {
        match term {
            Term::Var { slot, .. } => make.var(&self.vars[*slot]),
            Term::Number(x) => make.number(*x),
            Term::As(_, term) => self.build_term(term, make),
            Term::Op { op, attrs, args } => {
                let args =
                    args.iter().map(|a| self.build_term(a, make)).collect::<Result<Vec<_>, M::Error>>()?;
                let attrs = match attrs {
                    AttrTerm::Any => Attrs::default(),
                    AttrTerm::Bind(slot) => make.attrs(&self.attrs[*slot])?,
                    AttrTerm::Require(attrs) => attrs.clone(),
                };
                match op {
                    OpTerm::Is(op) => make.node(*op, attrs, &args),
                    OpTerm::Elementwise(_) => make.any(&args),
                    OpTerm::Result(i) => make.result(*i, args[0]),
                }
            }
        }
    }
}

/// Where the parts of a built expression come from.
pub(crate) trait Make {
    /// Why a part cannot be made.
    type Error;
    /// The class of a variable.
    fn var(&mut self, name: &str) -> Result<Id, Self::Error>;
    /// Bound attributes.
    fn attrs(&mut self, name: &str) -> Result<Attrs, Self::Error>;
    /// A number.
    fn number(&mut self, x: f64) -> Result<Id, Self::Error>;
    /// The operator that the wildcard of the left side stands for.
    fn any(&mut self, args: &[Id]) -> Result<Id, Self::Error>;
    /// An operator.
    fn node(&mut self, op: OpId, attrs: Attrs, args: &[Id]) -> Result<Id, Self::Error>;
    /// One result of an operator with several.
    fn result(&mut self, i: u32, of: Id) -> Result<Id, Self::Error>;
}

impl Bindings {
    /// The class in a slot.
    pub(crate) fn var(&self, slot: usize) -> Option<Id> {
        self.vars.get(slot).copied().flatten()
    }

    /// The attributes in a slot.
    pub(crate) fn attrs(&self, slot: usize) -> Option<&Attrs> {
        self.attrs.get(slot)?.as_ref()
    }

    /// The operator that the wildcard stands for.
    pub(crate) fn any(&self) -> Option<&(OpId, Attrs)> {
        self.any.as_ref()
    }

    /// The same match after unions.
    pub(crate) fn canonical(&self, egraph: &EGraph) -> Bindings {
        let vars = self.vars.iter().map(|v| v.map(|v| egraph.find(v))).collect();
        Bindings { root: egraph.find(self.root), vars, attrs: self.attrs.clone(), any: self.any.clone() }
    }
}

struct Search<'e> {
    egraph: &'e EGraph,
    bindings: Bindings,
    found: Vec<Bindings>,
    steps: usize,
    held: usize,
    best: usize,
}

impl Search<'_> {
    /// Solves all goals, restoring them before it returns.
    fn solve(&mut self, goals: &mut Vec<(&Term, Id)>) {
        self.steps += 1;
        self.best = self.best.max(self.held);
        if self.steps > STEPS_MAX {
            return;
        }
        let Some((term, class)) = goals.pop() else {
            if !self.found.contains(&self.bindings) {
                self.found.push(self.bindings.clone());
            }
            return;
        };
        let class = self.egraph.find(class);
        match term {
            Term::Number(x) => {
                if self.egraph[class].data.uniform().is_some_and(|u| close(u, *x)) {
                    self.solve(goals);
                }
            }
            Term::Var { slot, is } => self.variable(goals, class, *slot, *is),
            Term::As(slot, term) => {
                goals.push((term, class));
                self.variable(goals, class, *slot, Needs::Nothing);
                goals.pop();
            }
            Term::Op { op, attrs, args } => {
                let egraph = self.egraph;
                for node in &egraph[class].nodes {
                    match node {
                        ENode::Op(found, children)
                            if op.admits(*found) && children.len() == args.len() + 1 =>
                        {
                            self.node(goals, *op, (*found, children), (attrs, args));
                        }
                        ENode::Result(i, [of]) if *op == OpTerm::Result(*i) => {
                            self.held += 1;
                            goals.push((&args[0], *of));
                            self.solve(goals);
                            goals.pop();
                            self.held -= 1;
                        }
                        _ => {}
                    }
                }
            }
        }
        goals.push((term, class));
    }

    fn variable(&mut self, goals: &mut Vec<(&Term, Id)>, class: Id, slot: usize, is: Needs) {
        let data = &self.egraph[class].data;
        let admitted = match is {
            Needs::Nothing => data.ty().is_some(),
            Needs::Constant => data.constant.is_some(),
            Needs::Scalar => data.uniform().is_some(),
        };
        if !admitted {
            return;
        }
        match self.bindings.vars[slot] {
            Some(bound) if self.egraph.find(bound) == class => self.solve(goals),
            Some(_) => {}
            None => {
                self.bindings.vars[slot] = Some(class);
                self.solve(goals);
                self.bindings.vars[slot] = None;
            }
        }
    }

    /// A node of the right operator; a wildcard becomes that operator.
    fn node<'p>(
        &mut self,
        goals: &mut Vec<(&'p Term, Id)>,
        wanted: OpTerm,
        (found, children): (OpId, &[Id]),
        (attrs, args): (&AttrTerm, &'p [Term]),
    ) {
        if matches!(wanted, OpTerm::Is(_)) {
            return self.operator(goals, children, attrs, args, commutes(found));
        }
        let Some(found_attrs) = self.egraph[children[0]].data.attrs().cloned() else { return };
        let this = Some((found, found_attrs));
        if self.bindings.any.is_some() && self.bindings.any != this {
            return;
        }
        let before = std::mem::replace(&mut self.bindings.any, this);
        self.operator(goals, children, attrs, args, commutes(found));
        self.bindings.any = before;
    }

    fn operator<'p>(
        &mut self,
        goals: &mut Vec<(&'p Term, Id)>,
        children: &[Id],
        attrs: &AttrTerm,
        args: &'p [Term],
        commutes: bool,
    ) {
        let Some(found) = self.egraph[children[0]].data.attrs() else { return };
        let mut bound = None;
        match attrs {
            AttrTerm::Any => {}
            AttrTerm::Require(wanted) if !holds(wanted, found) => return,
            AttrTerm::Require(_) => {}
            AttrTerm::Bind(slot) => match &self.bindings.attrs[*slot] {
                Some(old) if old != found => return,
                Some(_) => {}
                None => {
                    self.bindings.attrs[*slot] = Some(found.clone());
                    bound = Some(*slot);
                }
            },
        }
        self.held += 1;
        let operands = &children[1..];
        // The last goal is solved first: the first argument leads.
        let depth = goals.len();
        goals.extend(args.iter().zip(operands.iter().copied()).rev());
        self.solve(goals);
        goals.truncate(depth);
        if commutes && operands[0] != operands[1] {
            goals.extend([(&args[1], operands[0]), (&args[0], operands[1])]);
            self.solve(goals);
            goals.truncate(depth);
        }
        self.held -= 1;
        if let Some(slot) = bound {
            self.bindings.attrs[slot] = None;
        }
    }
}

/// Whether attributes have these values; an absent one reads as 0.
fn holds(wanted: &Attrs, found: &Attrs) -> bool {
    wanted.iter().all(|(name, value)| match found.get(name) {
        Some(attr) => attr == value,
        None => *value == Attr::Int(0),
    })
}

/// Constants of models are f32, often the rounded quotient of others; but `x * 1` is x for no factor beside 1.
fn close(a: f64, b: f64) -> bool {
    let rounded = f64::from(b as f32) != b;
    (a == b && a.is_sign_positive() == b.is_sign_positive()) || (rounded && (a - b).abs() <= 1e-6 * b.abs())
}

struct Parser<'t> {
    rest: &'t str,
    vars: Vec<String>,
    attrs: Vec<String>,
}

impl<'t> Parser<'t> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take_while(&mut self, admit: impl Fn(char) -> bool) -> &'t str {
        let end = self.rest.find(|c| !admit(c)).unwrap_or(self.rest.len());
        let (head, tail) = self.rest.split_at(end);
        self.rest = tail;
        head
    }

    fn eat(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn name(&mut self) -> &'t str {
        self.take_while(|c| c.is_alphanumeric() || c == '_')
    }

    fn term(&mut self) -> Result<Term, String> {
        self.space();
        if self.eat('(') {
            return self.operator();
        }
        if self.eat('?') {
            let name = self.name();
            if self.eat('=') {
                let slot = slot(&mut self.vars, name);
                return Ok(Term::As(slot, Box::new(self.term()?)));
            }
            let is = match self.eat(':').then(|| self.name()) {
                None => Needs::Nothing,
                Some("const") => Needs::Constant,
                Some("scalar") => Needs::Scalar,
                Some(other) => return Err(format!("`?{name}` cannot be `{other}`")),
            };
            return Ok(Term::Var { slot: slot(&mut self.vars, name), is });
        }
        let number = self.take_while(|c| !c.is_whitespace() && c != ')' && c != '(');
        number.parse().map(Term::Number).map_err(|_| format!("`{number}` is no number"))
    }

    fn operator(&mut self) -> Result<Term, String> {
        let name = self.name();
        let op = match name {
            "unary" => OpTerm::Elementwise(1),
            "binary" => OpTerm::Elementwise(2),
            "result" if self.eat('#') => {
                let i = self.name();
                OpTerm::Result(i.parse().map_err(|_| format!("`{i}` is no number of a result"))?)
            }
            _ => OpTerm::Is(OpId::of(name).ok_or_else(|| format!("there is no operator `{name}`"))?),
        };
        let attrs = if self.eat(':') {
            let name = self.name();
            AttrTerm::Bind(slot(&mut self.attrs, name))
        } else if self.rest.starts_with('{') {
            let end = self.rest.find('}').ok_or("`{` is not closed")? + 1;
            let (text, rest) = self.rest.split_at(end);
            self.rest = rest;
            let OpTerm::Is(op) = op else { return Err(format!("`{name}` has no attributes to require")) };
            AttrTerm::Require(autoglm_ir::text::parse_attrs(op, text)?)
        } else {
            AttrTerm::Any
        };
        let mut args = Vec::new();
        loop {
            self.space();
            if self.eat(')') {
                break;
            }
            if self.rest.is_empty() {
                return Err("`(` is not closed".into());
            }
            args.push(self.term()?);
        }
        let fits = match op {
            OpTerm::Is(op) => (op.def().arity.min..=op.def().arity.max).contains(&args.len()),
            OpTerm::Elementwise(n) => n == args.len(),
            OpTerm::Result(_) => args.len() == 1,
        };
        if !fits {
            return Err(format!("`{name}` cannot take {} arguments", args.len()));
        }
        Ok(Term::Op { op, attrs, args })
    }
}

fn slot(names: &mut Vec<String>, name: &str) -> usize {
    names.iter().position(|n| n == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    })
}
