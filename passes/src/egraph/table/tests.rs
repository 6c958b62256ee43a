//! Tables as text, and what they say between, at and outside of their measurements.

use super::*;

const TEXT: &str = "# a comment\n#\nisa test\nmachine none\n\n\
    softmax f32 1 1x10 100\nsoftmax f32 1 1x40 200\nsoftmax f32 1 4x10 100\nsoftmax f32 1 4x40 800\nstep f32 1 - 50\n";

fn time(table: &CostTable, at: &[f64]) -> (f64, Vec<f64>) {
    table.nearest(Kernel::Softmax, 1, at).unwrap()
}

#[test]
fn text_and_table_are_one() {
    let table = CostTable::parse(TEXT).unwrap();
    assert_eq!((table.isa.as_str(), table.machine.as_str()), ("test", "none"));
    assert_eq!(CostTable::parse(&table.to_string()).unwrap(), table);
    let points: Vec<Point> = table.points().collect();
    assert_eq!(CostTable::measured("test", "none", &points).unwrap(), table);
    assert_eq!(points[2], Point { kernel: Kernel::Softmax, threads: 1, at: vec![4, 10], ns: 100.0 });
}

#[test]
fn measured_extents_give_what_was_measured_and_others_lie_between() {
    let table = CostTable::parse(TEXT).unwrap();
    for point in table.points() {
        let at: Vec<f64> = point.at.iter().map(|x| *x as f64).collect();
        let (ns, near) = table.nearest(point.kernel, 1, &at).unwrap();
        assert!((ns / point.ns - 1.0).abs() < 1e-12 && near == at, "{point:?}: {ns}");
    }
    // The geometric mean of the corners in the middle.
    let want = (100.0f64 * 100.0 * 200.0 * 800.0).powf(0.25);
    assert!((time(&table, &[2.0, 20.0]).0 / want - 1.0).abs() < 1e-12);
    assert_eq!(time(&table, &[9.0, 5.0]), (time(&table, &[4.0, 10.0]).0, vec![4.0, 10.0]));
    assert_eq!(table.nearest(Kernel::Step, 1, &[]), Some((50.0, vec![])));
    assert_eq!(table.nearest(Kernel::Step, 2, &[]), None);
    assert_eq!(table.nearest(Kernel::Gemm, 1, &[1.0, 1.0, 1.0]), None);
}

#[test]
fn damaged_tables_are_refused() {
    for (line, why) in [
        ("gemm f32 1 2x3x4", "line 1: needs a kernel"),
        ("gem f32 1 2x3x4 5", "there is no kernel \"gem\""),
        ("gemm f16 1 2x3x4 5", "element type \"f16\""),
        ("gemm f32 1 2x3 5", "is no measurement"),
        ("gemm f32 1 0x3x4 5", "is no measurement"),
        ("gemm f32 1 2x3x4 nan", "is no measurement"),
        ("gemm f32 1 2x3x-4 5", "line 1: \"-4\""),
        ("map f32 1 2 5\nmap f32 1 2 6", "occurs twice"),
        ("softmax f32 1 1x1 5\nsoftmax f32 1 2x2 5", "no grid"),
        ("map f32 1 2 5\nmap f32 1 4 4", "more work takes less time"),
    ] {
        let error = CostTable::parse(line).unwrap_err();
        assert!(error.contains(why), "{line}: {error}");
    }
    let point = |bytes, ns| Point { kernel: Kernel::Map, threads: 1, at: vec![bytes], ns };
    let settled = CostTable::measured("", "", &[point(2, 5.0), point(4, 4.0), point(8, 6.0)]).unwrap();
    assert_eq!(settled.points().map(|p| p.ns).collect::<Vec<_>>(), [4.0, 4.0, 6.0]);
}

#[test]
fn what_several_kernels_do_takes_one_no_longer() {
    let gemm = |threads, k, n, ns| Point { kernel: Kernel::Gemm, threads, at: vec![1, k, n], ns };
    // Twice 8 x 8 take 20, and four times that 40.
    let points = [gemm(1, 8, 8, 10.0), gemm(1, 8, 16, 30.0), gemm(1, 16, 8, 15.0), gemm(1, 16, 16, 90.0)];
    let table = CostTable::measured("", "", &points).unwrap();
    assert_eq!(table.points().map(|p| p.ns).collect::<Vec<_>>(), [10.0, 20.0, 15.0, 30.0]);
    for n in [8.0, 9.0, 11.3] {
        let time = |n| table.nearest(Kernel::Gemm, 1, &[1.0, 12.0, n]).unwrap().0;
        assert!(time(n * 1.4) <= 1.4 * time(n) * (1.0 + 1e-12), "{n}");
    }
}
