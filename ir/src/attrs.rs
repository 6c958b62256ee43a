//! Attributes of an operator: a short sorted list that hashes, compares and orders.

use crate::dim::Dim;
use crate::dtype::DType;
use std::sync::Arc;

/// One attribute value. Floats compare by bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attr {
    /// An integer; booleans are 0 and 1.
    Int(i64),
    /// A float, by its bits.
    Float(u64),
    /// A name from a fixed set.
    Str(Arc<str>),
    /// An element type.
    DType(DType),
    /// Integers.
    Ints(Vec<i64>),
    /// Symbolic integers.
    Dims(Vec<Dim>),
}

impl Attr {
    /// A float attribute.
    pub fn float(v: f64) -> Attr {
        Attr::Float(v.to_bits())
    }
}

/// Attributes sorted by name. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Attrs(Option<Arc<[(&'static str, Attr)]>>);

impl Attrs {
    /// From name and value pairs; the later of two with one name wins.
    pub fn new(pairs: impl IntoIterator<Item = (&'static str, Attr)>) -> Attrs {
        let sorted: std::collections::BTreeMap<_, _> = pairs.into_iter().collect();
        if sorted.is_empty() { Attrs(None) } else { Attrs(Some(sorted.into_iter().collect())) }
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Attr)> {
        self.0.iter().flat_map(|a| a.iter()).map(|(n, a)| (*n, a))
    }

    /// By name.
    pub fn get(&self, name: &str) -> Option<&Attr> {
        self.iter().find(|(n, _)| *n == name).map(|(_, a)| a)
    }

    /// With one attribute added or replaced.
    pub fn with(&self, name: &'static str, attr: Attr) -> Attrs {
        Attrs::new(self.iter().map(|(n, a)| (n, a.clone())).chain([(name, attr)]))
    }

    /// Without one attribute.
    pub fn without(&self, name: &str) -> Attrs {
        Attrs::new(self.iter().filter(|(n, _)| *n != name).map(|(n, a)| (n, a.clone())))
    }

    /// An integer; 0 if absent.
    pub fn int(&self, name: &str) -> i64 {
        match self.get(name) {
            Some(Attr::Int(v)) => *v,
            _ => 0,
        }
    }

    /// Whether an integer is present and not 0.
    pub fn flag(&self, name: &str) -> bool {
        self.int(name) != 0
    }

    /// A float; 0 if absent.
    pub fn float(&self, name: &str) -> f64 {
        match self.get(name) {
            Some(Attr::Float(bits)) => f64::from_bits(*bits),
            _ => 0.0,
        }
    }

    /// A name; empty if absent.
    pub fn str(&self, name: &str) -> &str {
        match self.get(name) {
            Some(Attr::Str(s)) => s,
            _ => "",
        }
    }

    /// An element type.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        match self.get(name) {
            Some(Attr::DType(d)) => Some(*d),
            _ => None,
        }
    }

    /// Integers; empty if absent.
    pub fn ints(&self, name: &str) -> &[i64] {
        match self.get(name) {
            Some(Attr::Ints(v)) => v,
            _ => &[],
        }
    }

    /// Symbolic integers; empty if absent.
    pub fn dims(&self, name: &str) -> &[Dim] {
        match self.get(name) {
            Some(Attr::Dims(v)) => v,
            _ => &[],
        }
    }
}
