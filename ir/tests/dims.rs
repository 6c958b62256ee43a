//! Simplifications of symbolic extents, against the values that they stand for.

#![allow(clippy::unwrap_used, reason = "a helper of the tests may panic as they do")]

use autoglm_ir::Dim;

/// The extent that numpy gives for two extents, if they broadcast.
fn numpy(a: i64, b: i64) -> Option<i64> {
    match (a, b) {
        (a, b) if a == b => Some(a),
        (1, b) => Some(b),
        (a, 1) => Some(a),
        _ => None,
    }
}

#[test]
fn broadcasting_simplifies_to_what_numpy_gives() {
    let (n, m) = (Dim::sym("n"), Dim::sym("m"));
    let joined = n.broadcast(&m).unwrap();
    let mut pairs = vec![(n.clone(), joined.clone()), (joined.clone(), m.clone()), (n.clone(), m.clone())];
    for limit in 0..4 {
        pairs.push((n.clone(), n.smaller(&limit.into())));
        pairs.push((n.smaller(&limit.into()), n.clone()));
        pairs.push((&n + &1.into(), (&n + &1.into()).smaller(&limit.into())));
        pairs.push((&n - &2.into(), (&n - &2.into()).smaller(&limit.into())));
    }
    for (a, b) in pairs {
        let joined = a.broadcast(&b).unwrap();
        for (n, m) in (0..6).flat_map(|n| (0..6).map(move |m| (n, m))) {
            let at = |d: &Dim| d.eval(&|s| Some(if s == "n" { n } else { m }));
            let (Some(x), Some(y)) = (at(&a), at(&b)) else { continue };
            // What does not broadcast, and what is not an extent, is refused by a guard.
            if let Some(want) = numpy(x, y).filter(|_| x >= 0 && y >= 0) {
                assert_eq!(at(&joined), Some(want), "{a} with {b}, n = {n}, m = {m}");
            }
        }
    }
}

/// Otherwise the loops over a sequence and over its part of a table of positions would have two shapes.
#[test]
fn a_table_cut_to_an_extent_is_as_long_as_the_extent() {
    let n = Dim::sym("n");
    assert_eq!(n.broadcast(&n.smaller(&512.into())), Some(n.clone()));
    assert_eq!(n.smaller(&512.into()).broadcast(&n), Some(n.clone()));
    let joined = n.broadcast(&Dim::sym("m")).unwrap();
    assert_eq!(joined.broadcast(&n), Some(joined));
    // An element of an input may be negative, a limit of 0 leaves nothing.
    let element = Dim::sym("x@0");
    assert_ne!(element.broadcast(&element.smaller(&8.into())), Some(element));
    assert_ne!(n.broadcast(&n.smaller(&0.into())), Some(n));
}

#[test]
fn a_sum_divides_by_a_sum_that_it_is_a_multiple_of() {
    let (b, p, s) = (Dim::sym("b"), Dim::sym("p"), Dim::sym("s"));
    let keys = &p + &s;
    let whole = &(&Dim::from(768) * &b) * &keys;
    assert_eq!(whole.floor_div(&(&Dim::from(64) * &keys)), Some(&Dim::from(12) * &b));
    assert_eq!(whole.exact_div(&(&p - &s)), None);
    assert_eq!((&whole + &Dim::from(1)).exact_div(&keys), None);
}

#[test]
fn floors_of_floors_join() {
    let h = Dim::sym("h");
    let half = (&h - &1.into()).floor_div(&2.into()).unwrap();
    let quarter = (&half + &3.into()).floor_div(&2.into()).unwrap();
    assert_eq!(quarter.to_string(), "floordiv(h+5, 4)");
    for n in -9..9 {
        let at = |d: &Dim| d.eval(&|_| Some(n)).unwrap();
        assert_eq!(at(&quarter), (at(&half) + 3).div_euclid(2));
    }
}
