//! Symbolic extents: canonical integer polynomials over named symbols.
//!
//! A [`Dim`] is a sum of products of atoms with integer coefficients, kept sorted, so two dims that are equal as
//! polynomials are equal as values. What is not a polynomial (floor division, remainder, minimum, maximum, equality,
//! broadcasting) is an atom around dims. Coefficients saturate at the ends of `i128`; [`Dim::is_sane`] tells whether
//! every coefficient still fits `i64`, and the verifier refuses a graph where one does not.
//!
//! Products of sums, and atoms around dims that hold each other twice, grow exponentially. A dim beyond [`TERMS_MAX`],
//! [`ATOMS_MAX`] or [`DEPTH_MAX`] becomes *overgrown*: nothing is known of it, whatever is computed from it is overgrown
//! too, and it is not sane.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Most terms of a dim.
pub const TERMS_MAX: usize = 256;
/// Most atoms of a dim, those within atoms included.
pub const ATOMS_MAX: u32 = 4096;
/// How deep atoms may nest.
pub const DEPTH_MAX: u32 = 64;

/// A symbolic integer.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Dim {
    /// Sorted by monomial, no zero coefficient, no repeated monomial. The empty sum is 0.
    terms: Vec<(Monomial, i128)>,
    /// Follows from the terms.
    size: Size,
}

/// How large a dim is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
struct Size {
    /// Atoms, those within atoms included; more than [`ATOMS_MAX`] for an overgrown dim.
    atoms: u32,
    depth: u32,
}

/// A product of atoms, sorted, repeated for powers; the empty product is 1.
type Monomial = Vec<Atom>;

/// An indivisible factor.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Atom {
    /// A named symbol.
    Sym(Arc<str>),
    /// `floor(a / b)`, b > 0.
    FloorDiv(Box<Dim>, Box<Dim>),
    /// `a - b * floor(a / b)`, b > 0.
    Mod(Box<Dim>, Box<Dim>),
    /// The smaller.
    Min(Box<Dim>, Box<Dim>),
    /// The larger.
    Max(Box<Dim>, Box<Dim>),
    /// 1 if equal, else 0.
    Eq(Box<Dim>, Box<Dim>),
    /// The extent two broadcast extents give: `b` if `a == 1`, else `a`.
    Broadcast(Box<Dim>, Box<Dim>),
}

/// Inclusive bounds of the symbols, for proofs.
pub trait Bounds {
    /// Smallest and largest value of a symbol, if known.
    fn bounds(&self, symbol: &str) -> Option<(i64, i64)>;
}

/// Symbols are extents (at least 0) and nothing else is known.
pub struct Extents;

impl Bounds for Extents {
    fn bounds(&self, _symbol: &str) -> Option<(i64, i64)> {
        Some((0, i64::MAX))
    }
}

impl Dim {
    /// A named symbol.
    pub fn sym(name: &str) -> Dim {
        Dim::atom(Atom::Sym(name.into()))
    }

    fn atom(atom: Atom) -> Dim {
        Dim::of(vec![(vec![atom], 1)])
    }

    /// Terms that are in canonical form.
    fn of(terms: Vec<(Monomial, i128)>) -> Dim {
        let mut size = Size::default();
        for atom in terms.iter().flat_map(|(m, _)| m) {
            let inner = atom.size();
            size.atoms = size.atoms.saturating_add(inner.atoms);
            size.depth = size.depth.max(inner.depth);
        }
        let fits = terms.len() <= TERMS_MAX && size.atoms <= ATOMS_MAX && size.depth <= DEPTH_MAX;
        if fits { Dim { terms, size } } else { Dim::overgrown() }
    }

    /// A number of which nothing is known.
    fn overgrown() -> Dim {
        let size = Size { atoms: u32::MAX, depth: 1 };
        Dim { terms: vec![(vec![Atom::Sym("@".into())], 1)], size }
    }

    fn is_overgrown(&self) -> bool {
        self.size.atoms > ATOMS_MAX
    }

    fn from_terms(terms: impl IntoIterator<Item = (Monomial, i128)>) -> Dim {
        let mut sum: BTreeMap<Monomial, i128> = BTreeMap::new();
        for (m, c) in terms {
            let slot = sum.entry(m).or_insert(0);
            *slot = slot.saturating_add(c);
        }
        Dim::of(sum.into_iter().filter(|(_, c)| *c != 0).collect())
    }

    /// The value, if it holds no symbol and fits.
    pub fn as_const(&self) -> Option<i64> {
        match self.terms.as_slice() {
            [] => Some(0),
            [(m, c)] if m.is_empty() => i64::try_from(*c).ok(),
            _ => None,
        }
    }

    /// The value as an extent, if it is a constant and not negative.
    pub fn as_usize(&self) -> Option<usize> {
        self.as_const().and_then(|v| usize::try_from(v).ok())
    }

    /// The symbol's name, if it is just a symbol.
    pub fn as_sym(&self) -> Option<&str> {
        match self.as_atom()? {
            Atom::Sym(name) => Some(name),
            _ => None,
        }
    }

    /// Whether it equals this constant for every value of its symbols.
    pub fn is(&self, value: i64) -> bool {
        self.as_const() == Some(value)
    }

    /// Whether every coefficient fits `i64`, and it is not overgrown.
    pub fn is_sane(&self) -> bool {
        !self.is_overgrown()
            && self.terms.iter().all(|(m, c)| i64::try_from(*c).is_ok() && m.iter().all(Atom::is_sane))
    }

    /// The terms, sorted: atoms of each product and its coefficient.
    pub fn terms(&self) -> impl Iterator<Item = (&[Atom], i128)> {
        self.terms.iter().map(|(m, c)| (m.as_slice(), *c))
    }

    /// `floor(self / d)`; `None` when `d` is a constant that is not positive.
    pub fn floor_div(&self, d: &Dim) -> Option<Dim> {
        if d.as_const().is_some_and(|c| c <= 0) {
            return None;
        }
        if self.is_overgrown() || d.is_overgrown() {
            return Some(Dim::overgrown());
        }
        if d.is(1) || self.is(0) {
            return Some(self.clone());
        }
        if self == d {
            return Some(1.into());
        }
        if let (Some(a), Some(b)) = (self.as_const(), d.as_const()) {
            return Some(a.div_euclid(b).into());
        }
        if let Some(q) = self.exact_div(d) {
            return Some(q);
        }
        if let Some(joined) = self.floor_of_floor(d) {
            return Some(joined);
        }
        // Terms with a coefficient that the constant divisor divides leave the floor.
        if let Some(c) = d.as_const().map(i128::from) {
            let (whole, rest): (Vec<_>, Vec<_>) = self.terms.iter().cloned().partition(|(_, k)| k % c == 0);
            if !whole.is_empty() {
                let whole = Dim::of(whole.into_iter().map(|(m, k)| (m, k / c)).collect());
                return Some(&whole + &Dim::of(rest).floor_div(d)?);
            }
        }
        Some(Dim::atom(Atom::FloorDiv(Box::new(self.clone()), Box::new(d.clone()))))
    }

    /// `floor((floor(x / a) + k) / d) = floor((x + k a) / (a d))` for numbers `a`, `d` and `k`.
    fn floor_of_floor(&self, d: &Dim) -> Option<Dim> {
        let numbers: i128 = self.terms.iter().filter(|(m, _)| m.is_empty()).map(|(_, k)| k).sum();
        let mut others = self.terms.iter().filter(|(m, _)| !m.is_empty());
        let (Some((m, 1)), None) = (others.next(), others.next()) else { return None };
        let [Atom::FloorDiv(x, a)] = m.as_slice() else { return None };
        let both = a.as_const()?.checked_mul(d.as_const()?)?;
        let shift = numbers.checked_mul(i128::from(a.as_const()?))?;
        (&**x + &Dim::from(i64::try_from(shift).ok()?)).floor_div(&both.into())
    }

    /// `self / d` when the division leaves no remainder for any value of the symbols (`d` not 0).
    ///
    /// Of quotients of a sum by a sum only single products are found, which is what exporters' reshapes of merged axes give.
    pub fn exact_div(&self, d: &Dim) -> Option<Dim> {
        if self.is_overgrown() || d.is_overgrown() {
            return None;
        }
        let [(dm, dc)] = d.terms.as_slice() else {
            let first = self.terms.first().filter(|_| self.terms.len() == d.terms.len())?;
            let one = |term: &(Monomial, i128)| Dim::from_terms([term.clone()]);
            let quotient = |term: &(Monomial, i128)| one(first).exact_div(&one(term));
            return d.terms.iter().filter_map(quotient).find(|q| q * d == *self);
        };
        let mut terms = Vec::with_capacity(self.terms.len());
        for (m, c) in &self.terms {
            if c % dc != 0 {
                return None;
            }
            let mut rest = m.clone();
            for atom in dm {
                let at = rest.iter().position(|a| a == atom)?;
                rest.remove(at);
            }
            terms.push((rest, c / dc));
        }
        Some(Dim::from_terms(terms))
    }

    /// `ceil(self / d)`.
    pub fn ceil_div(&self, d: &Dim) -> Option<Dim> {
        (&(self + d) - &1.into()).floor_div(d)
    }

    /// The remainder with the sign of `d`; `None` when `d` is a constant that is not positive.
    pub fn modulo(&self, d: &Dim) -> Option<Dim> {
        if d.as_const().is_some_and(|c| c <= 0) {
            return None;
        }
        if let (Some(a), Some(b)) = (self.as_const(), d.as_const()) {
            return Some(a.rem_euclid(b).into());
        }
        if self.exact_div(d).is_some() {
            return Some(0.into());
        }
        Some(Dim::atom(Atom::Mod(Box::new(self.clone()), Box::new(d.clone()))))
    }

    /// The smaller of two.
    pub fn smaller(&self, other: &Dim) -> Dim {
        match (other - self).sign(&Extents) {
            Some(true) => self.clone(),
            Some(false) => other.clone(),
            None => {
                let (a, b) = if self <= other { (self, other) } else { (other, self) };
                Dim::atom(Atom::Min(Box::new(a.clone()), Box::new(b.clone())))
            }
        }
    }

    /// The larger of two.
    pub fn larger(&self, other: &Dim) -> Dim {
        match (other - self).sign(&Extents) {
            Some(true) => other.clone(),
            Some(false) => self.clone(),
            None => {
                let (a, b) = if self <= other { (self, other) } else { (other, self) };
                Dim::atom(Atom::Max(Box::new(a.clone()), Box::new(b.clone())))
            }
        }
    }

    /// `Some(true)` if provably at least 0, `Some(false)` if provably at most 0. Symbols that name input elements
    /// rather than extents hold `@` and have no bounds.
    fn sign(&self, bounds: &dyn Bounds) -> Option<bool> {
        let (lo, hi) = self.range(bounds);
        match (lo >= 0, hi <= 0) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }

    /// 1 if equal, else 0.
    pub fn equals(&self, other: &Dim) -> Dim {
        let difference = self - other;
        if let Some(c) = difference.as_const() {
            return i64::from(c == 0).into();
        }
        let (lo, hi) = difference.range(&Extents);
        if lo > 0 || hi < 0 {
            return 0.into();
        }
        let (a, b) = if self <= other { (self, other) } else { (other, self) };
        Dim::atom(Atom::Eq(Box::new(a.clone()), Box::new(b.clone())))
    }

    /// `then` where `cond` is 1, `otherwise` where it is 0.
    pub fn select(cond: &Dim, then: &Dim, otherwise: &Dim) -> Dim {
        otherwise + &(cond * &(then - otherwise))
    }

    /// The extent that broadcasting two extents gives; `None` when they are constants that do not broadcast.
    pub fn broadcast(&self, other: &Dim) -> Option<Dim> {
        if self == other || other.is(1) {
            return Some(self.clone());
        }
        if self.is(1) {
            return Some(other.clone());
        }
        match (self.as_const(), other.as_const()) {
            (Some(_), Some(_)) => None,
            // An extent that is not 1 wins; a guard checks the other at run time.
            (Some(_), None) => Some(self.clone()),
            (None, Some(_)) => Some(other.clone()),
            (None, None) if other.is_absorbed_by(self) => Some(self.clone()),
            (None, None) if self.is_absorbed_by(other) => Some(other.clone()),
            (None, None) => {
                let (a, b) = if self <= other { (self, other) } else { (other, self) };
                Some(Dim::atom(Atom::Broadcast(Box::new(a.clone()), Box::new(b.clone()))))
            }
        }
    }

    /// Whether broadcasting this with `other` gives `other` wherever the two broadcast at all.
    fn is_absorbed_by(&self, other: &Dim) -> bool {
        let part_of = |whole: &Dim| match whole.as_atom() {
            Some(Atom::Broadcast(a, b)) => **a == *self || **b == *self,
            _ => false,
        };
        // A table of positions, cut to the length of the sequence: it is as long, or 1 and so is the sequence.
        let cut = match self.as_atom() {
            Some(Atom::Min(a, b)) => [(a, b), (b, a)]
                .into_iter()
                .any(|(extent, limit)| **extent == *other && limit.as_const().is_some_and(|c| c >= 1)),
            _ => false,
        };
        part_of(other) || cut && other.range(&Extents).0 >= 0
    }

    /// The atom, if it is just one.
    fn as_atom(&self) -> Option<&Atom> {
        match self.terms.as_slice() {
            [(m, 1)] => match m.as_slice() {
                [atom] => Some(atom),
                _ => None,
            },
            _ => None,
        }
    }

    /// Inclusive bounds of the value; the ends saturate at those of `i64`.
    pub fn range(&self, bounds: &dyn Bounds) -> (i128, i128) {
        let mut sum = (0i128, 0i128);
        for (m, c) in &self.terms {
            let mut product = (1i128, 1i128);
            for atom in m {
                product = mul_range(product, atom.range(bounds));
            }
            let term = mul_range(product, (*c, *c));
            sum = (clamp(sum.0.saturating_add(term.0)), clamp(sum.1.saturating_add(term.1)));
        }
        sum
    }

    /// Names of all symbols in it, in order, each once.
    pub fn symbols(&self, into: &mut std::collections::BTreeSet<Arc<str>>) {
        for atom in self.terms.iter().flat_map(|(m, _)| m) {
            match atom {
                Atom::Sym(s) => {
                    into.insert(s.clone());
                }
                Atom::FloorDiv(a, b)
                | Atom::Mod(a, b)
                | Atom::Min(a, b)
                | Atom::Max(a, b)
                | Atom::Eq(a, b)
                | Atom::Broadcast(a, b) => {
                    a.symbols(into);
                    b.symbols(into);
                }
            }
        }
    }

    /// Replaces symbols and simplifies again; `None` when a division by a constant that is not positive appears.
    pub fn substitute(&self, of: &dyn Fn(&str) -> Option<Dim>) -> Option<Dim> {
        let mut sum = Dim::default();
        for (m, c) in &self.terms {
            let mut product = Dim::of(vec![(Vec::new(), *c)]);
            for atom in m {
                product = &product * &atom.substitute(of)?;
            }
            sum = &sum + &product;
        }
        Some(sum)
    }

    /// The value for given symbols; `None` on an unknown symbol, overflow or a division by a non-positive number.
    pub fn eval(&self, of: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
        self.substitute(&|s| of(s).map(Dim::from))?.as_const()
    }
}

impl Atom {
    fn size(&self) -> Size {
        match self {
            Atom::Sym(_) => Size { atoms: 1, depth: 1 },
            Atom::FloorDiv(a, b)
            | Atom::Mod(a, b)
            | Atom::Min(a, b)
            | Atom::Max(a, b)
            | Atom::Eq(a, b)
            | Atom::Broadcast(a, b) => Size {
                atoms: a.size.atoms.saturating_add(b.size.atoms).saturating_add(1),
                depth: a.size.depth.max(b.size.depth).saturating_add(1),
            },
        }
    }

    fn is_sane(&self) -> bool {
        match self {
            Atom::Sym(_) => true,
            Atom::FloorDiv(a, b)
            | Atom::Mod(a, b)
            | Atom::Min(a, b)
            | Atom::Max(a, b)
            | Atom::Eq(a, b)
            | Atom::Broadcast(a, b) => a.is_sane() && b.is_sane(),
        }
    }

    fn range(&self, bounds: &dyn Bounds) -> (i128, i128) {
        const TOP: i128 = i64::MAX as i128;
        match self {
            Atom::Sym(s) if s.contains('@') => (-TOP, TOP),
            Atom::Sym(s) => bounds.bounds(s).map_or((-TOP, TOP), |(lo, hi)| (i128::from(lo), i128::from(hi))),
            Atom::FloorDiv(a, b) => {
                let ((alo, ahi), (blo, bhi)) = (a.range(bounds), b.range(bounds));
                let (blo, bhi) = (blo.max(1), bhi.max(1));
                let ends =
                    [alo.div_euclid(blo), alo.div_euclid(bhi), ahi.div_euclid(blo), ahi.div_euclid(bhi)];
                (ends.into_iter().min().unwrap_or(-TOP), ends.into_iter().max().unwrap_or(TOP))
            }
            Atom::Mod(_, b) => (0, (b.range(bounds).1 - 1).max(0)),
            Atom::Min(a, b) => {
                let (a, b) = (a.range(bounds), b.range(bounds));
                (a.0.min(b.0), a.1.min(b.1))
            }
            Atom::Max(a, b) => {
                let (a, b) = (a.range(bounds), b.range(bounds));
                (a.0.max(b.0), a.1.max(b.1))
            }
            Atom::Eq(..) => (0, 1),
            Atom::Broadcast(a, b) => {
                let (a, b) = (a.range(bounds), b.range(bounds));
                (a.0.min(b.0), a.1.max(b.1))
            }
        }
    }

    fn substitute(&self, of: &dyn Fn(&str) -> Option<Dim>) -> Option<Dim> {
        Some(match self {
            Atom::Sym(s) => of(s).unwrap_or_else(|| Dim::atom(self.clone())),
            Atom::FloorDiv(a, b) => a.substitute(of)?.floor_div(&b.substitute(of)?)?,
            Atom::Mod(a, b) => a.substitute(of)?.modulo(&b.substitute(of)?)?,
            Atom::Min(a, b) => a.substitute(of)?.smaller(&b.substitute(of)?),
            Atom::Max(a, b) => a.substitute(of)?.larger(&b.substitute(of)?),
            Atom::Eq(a, b) => a.substitute(of)?.equals(&b.substitute(of)?),
            Atom::Broadcast(a, b) => a.substitute(of)?.broadcast(&b.substitute(of)?)?,
        })
    }
}

fn clamp(v: i128) -> i128 {
    v.clamp(-(i64::MAX as i128), i64::MAX as i128)
}

fn mul_range(a: (i128, i128), b: (i128, i128)) -> (i128, i128) {
    let ends =
        [a.0.saturating_mul(b.0), a.0.saturating_mul(b.1), a.1.saturating_mul(b.0), a.1.saturating_mul(b.1)];
    let lo = ends.iter().copied().fold(i128::MAX, i128::min);
    let hi = ends.iter().copied().fold(i128::MIN, i128::max);
    (clamp(lo), clamp(hi))
}

/// The product of extents.
pub fn product<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Dim {
    dims.into_iter().fold(Dim::from(1), |p, d| &p * d)
}

impl From<i64> for Dim {
    fn from(v: i64) -> Dim {
        Dim::from_terms([(Vec::new(), i128::from(v))])
    }
}

impl From<usize> for Dim {
    fn from(v: usize) -> Dim {
        Dim::from_terms([(Vec::new(), v as i128)])
    }
}

impl From<i32> for Dim {
    fn from(v: i32) -> Dim {
        Dim::from(i64::from(v))
    }
}

impl std::ops::Add for &Dim {
    type Output = Dim;
    fn add(self, other: &Dim) -> Dim {
        if self.is_overgrown() || other.is_overgrown() {
            return Dim::overgrown();
        }
        Dim::from_terms(self.terms.iter().chain(&other.terms).cloned())
    }
}

impl std::ops::Sub for &Dim {
    type Output = Dim;
    fn sub(self, other: &Dim) -> Dim {
        if self.is_overgrown() || other.is_overgrown() {
            return Dim::overgrown();
        }
        let negated = other.terms.iter().map(|(m, c)| (m.clone(), c.saturating_neg()));
        Dim::from_terms(self.terms.iter().cloned().chain(negated))
    }
}

impl std::ops::Mul for &Dim {
    type Output = Dim;
    fn mul(self, other: &Dim) -> Dim {
        /// Products of terms that are worth making: some cancel.
        const PAIRS_MAX: usize = 16 * TERMS_MAX;
        let pairs = self.terms.len() * other.terms.len();
        if self.is_overgrown() || other.is_overgrown() || pairs > PAIRS_MAX {
            return Dim::overgrown();
        }
        let pairs = self.terms.iter().flat_map(|a| other.terms.iter().map(move |b| (a, b)));
        Dim::from_terms(pairs.map(|((ma, ca), (mb, cb))| {
            let mut m: Monomial = ma.iter().chain(mb).cloned().collect();
            m.sort();
            // An equality is 0 or 1, so its square is itself.
            m.dedup_by(|x, y| x == y && matches!(x, Atom::Eq(..)));
            (m, ca.saturating_mul(*cb))
        }))
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return f.write_str("0");
        }
        // Constant last, as people write `2*seq+1`.
        let (constant, rest): (Vec<_>, Vec<_>) = self.terms.iter().partition(|(m, _)| m.is_empty());
        for (i, (m, c)) in rest.into_iter().chain(constant).enumerate() {
            if i > 0 && *c > 0 {
                f.write_str("+")?;
            }
            match (m.is_empty(), *c) {
                (false, 1) => {}
                (false, -1) => f.write_str("-")?,
                (false, c) => write!(f, "{c}*")?,
                (true, c) => write!(f, "{c}")?,
            }
            for (j, atom) in m.iter().enumerate() {
                if j > 0 {
                    f.write_str("*")?;
                }
                write!(f, "{atom}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Sym(s) => write!(f, "{}", SymName(s)),
            Atom::FloorDiv(a, b) => write!(f, "floordiv({a}, {b})"),
            Atom::Mod(a, b) => write!(f, "mod({a}, {b})"),
            Atom::Min(a, b) => write!(f, "min({a}, {b})"),
            Atom::Max(a, b) => write!(f, "max({a}, {b})"),
            Atom::Eq(a, b) => write!(f, "eq({a}, {b})"),
            Atom::Broadcast(a, b) => write!(f, "broadcast({a}, {b})"),
        }
    }
}

/// A symbol's name as text: quoted when it is not a plain identifier.
struct SymName<'a>(&'a str);

impl fmt::Display for SymName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '@' | '.');
        let head = self.0.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if head && self.0.chars().all(plain) { f.write_str(self.0) } else { write!(f, "{:?}", self.0) }
    }
}
