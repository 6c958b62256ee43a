//! Channels in another order: which axes may be permuted, and that the graph computes what it did.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod equal;

use autoglm_ir::text::parse;
use autoglm_ir::verify::verify;
use autoglm_ir::{Attr, Attrs, ConstData, Dim, Graph, OpId, Tensor, ValueId};
use autoglm_passes::Options;
use autoglm_passes::channels::{channels, permute};

/// A deterministic sequence of numbers (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    /// Fisher and Yates.
    fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        (1..n).rev().for_each(|i| order.swap(i, self.below(i + 1)));
        order
    }

    /// Eighths, so that short sums are exact in any order.
    fn eighths(&mut self, shape: Vec<usize>) -> Tensor {
        let count = shape.iter().product();
        let data = (0..count).map(|_| self.below(17) as f64 / 8.0 - 1.0).collect();
        Tensor::floats(autoglm_ir::DType::F32, shape, data)
    }
}

/// The graph with random numbers in the place of splats of 7.
fn filled(source: &str) -> Graph {
    let mut graph = parse(source).unwrap_or_else(|e| panic!("{e:?}"));
    let mut random = Random(11);
    let seven = Tensor::floats(autoglm_ir::DType::F32, vec![], vec![7.0]).data;
    for constant in &mut graph.consts {
        if matches!(&constant.data, ConstData::Splat(element) if *element == seven) {
            constant.data = ConstData::Bytes(random.eighths(constant.ty.concrete().unwrap()).data);
        }
    }
    graph
}

/// Extents and numbers of readers of the sets of a graph, which it computes the same in other orders of.
fn checked(graph: &Graph, at: &str) -> Vec<(usize, usize)> {
    assert_eq!(verify(graph), [], "{at}");
    let sets = channels(graph);
    let mut random = Random(5);
    let orders: Vec<Vec<usize>> = sets.iter().map(|set| random.order(set.extent)).collect();
    let pairs: Vec<_> = sets.iter().zip(orders.iter().map(Vec::as_slice)).collect();
    let after = permute(graph, &pairs, &Options::default()).unwrap().graph;
    assert_eq!(verify(&after), [], "{at}");
    equal::assert_equal(graph, &after, false, at);
    sets.iter().map(|set| (set.extent, set.readers.len())).collect()
}

fn sets(source: &str) -> Vec<(usize, usize)> {
    checked(&filled(source), source)
}

const PIXEL: &str = "strides=[1,1], dilations=[1,1], pads=[0,0,0,0]";
const THREE: &str = "strides=[1,1], dilations=[1,1], pads=[1,1,1,1]";

#[test]
fn channels_between_products_have_no_order() {
    let mlp = |last: &str| {
        format!(
            "graph @g (%x: f32[N,6]) {{
              %w = const f32[6,8] splat 7
              %a = const f32[8] splat 7
              %v = const f32[8,12] splat 7
              %u = const f32[12,5] splat 7
              %half = const f32[] [0.5]
              %0 = matmul %x, %w
              %1 = add %0, %a
              %2 = mul %1, %half
              %3 = erf %2
              %4 = mul %1, %3
              %5 = linear %4, %v
              %6 = gelu %5
              %7 = matmul %6, %u
              {last}
            }}"
        )
    };
    assert_eq!(sets(&mlp("return %7")), [(8, 1), (12, 1)]);
    // What is given to the outside has its order.
    assert_eq!(sets(&mlp("return %7, %3 as \"also\"")), [(12, 1)]);
    assert_eq!(sets(&mlp("%8 = reduce_max %6 {axes=[1], keepdims=0}\nreturn %7, %8")), [(8, 1), (12, 1)]);
    assert_eq!(sets(&mlp("%8 = arg_max %6 {axis=1, keepdims=0}\nreturn %7, %8")), [(8, 1)]);
}

#[test]
fn images_carry_channels_through_what_acts_on_each_alone() {
    let source = format!(
        "graph @g (%x: f32[N,3,6,8]) {{
          %w = const f32[8,3,3,3] splat 7
          %s = const f32[8,1,1] splat 7
          %t = const f32[1,8,1,1] splat 7
          %d = const f32[8,1,3,3] splat 7
          %v = const f32[6,8,1,1] splat 7
          %b = const f32[6] splat 7
          %g = const f32[4,3,3,3] splat 7
          %u = const f32[6,5] splat 7
          %zero = const f32[] [0]
          %0 = conv %x, %w {{{THREE}, groups=1}}
          %1 = mul %0, %s
          %2 = add %1, %t
          %3 = max %2, %zero
          %4 = max_pool %3 {{kernel=[2,2], strides=[2,2], dilations=[1,1], pads=[0,0,0,0]}}
          %5 = conv %4, %d {{{THREE}, groups=8}}
          %6 = conv %5, %v, %b {{{PIXEL}, groups=1}}
          %7 = pad %6, %zero {{before=[0,0,1,1], after=[0,0,0,1]}}
          %8 = reduce_sum %7 {{axes=[2,3], keepdims=0}}
          %9 = matmul %8, %u
          return %9
        }}"
    );
    assert_eq!(sets(&source), [(8, 1), (6, 1)]);
    // A grouped convolution sees where a channel is, and so does a channel's place in a flat row.
    let grouped = source.replace("%g = const f32[4,3,3,3]", "%g = const f32[4,3,1,1]");
    let grouped =
        grouped.replace("%7 = pad %6,", &format!("%y = conv %6, %g {{{PIXEL}, groups=2}}\n%7 = pad %y,"));
    let grouped = grouped.replace("%u = const f32[6,5]", "%u = const f32[4,5]");
    assert_eq!(sets(&grouped), [(8, 1)]);
    let flat = "%y = reshape %0 {shape=[N,384]}\n%z = cum_sum %y {axis=1}";
    let flat = source.replace("%1 = mul", &format!("{flat}\n%1 = mul")).replace("return %9", "return %9, %z");
    assert_eq!(sets(&flat), [(6, 1)]);
}

#[test]
fn all_that_a_sum_joins_has_one_order() {
    let source = |first: &str, last: &str| {
        format!(
            "graph @g (%x: f32[N,8], %ids: i64[N]) {{
              %e = const f32[9,8] splat 7
              %s = const f32[8] splat 7
              %t = const f32[8] splat 7
              %w = const f32[8,8] splat 7
              %v = const f32[8,16] splat 7
              %u = const f32[16,8] splat 7
              %o = const f32[8,2] splat 7
              %0 = {first}
              %1 = matmul %0, %w
              %2 = add %1, %0
              %3 = layer_norm %2, %s, %t {{epsilon=0.01}}
              %4 = matmul %3, %v
              %5 = silu %4
              %6 = matmul %5, %u
              %7 = add %3, %6
              %8 = matmul %7, %o
              return {last}
            }}"
        )
    };
    assert_eq!(sets(&source("gather %e, %ids {axis=0}", "%8")), [(8, 3), (16, 1)]);
    // An input that is added has its order, and so all that it is added to.
    assert_eq!(sets(&source("add %x, %s", "%8")), [(16, 1)]);
    assert_eq!(sets(&source("gather %e, %ids {axis=0}", "%8, %7")), [(16, 1)]);
}

#[test]
fn heads_hold_what_they_split() {
    let source = "graph @g (%x: f32[B,S,8]) {
      %w = const f32[8,8] splat 7
      %v = const f32[8,8] splat 7
      %0 = matmul %x, %w
      %1 = reshape %0 {shape=[B,S,2,4]}
      %2 = transpose %1 {perm=[0,2,1,3]}
      %3 = attention %2, %2, %2 {scale=0.5}
      %4 = transpose %3 {perm=[0,2,1,3]}
      %5 = reshape %4 {shape=[B,S,8]}
      %6 = matmul %5, %v
      return %6
    }";
    assert_eq!(sets(source), []);
    // Rows that are only counted otherwise keep their columns.
    let rows = "graph @g (%x: f32[B,S,8]) {
      %w = const f32[8,8] splat 7
      %v = const f32[8,8] splat 7
      %0 = matmul %x, %w
      %1 = reshape %0 {shape=[B*S,8]}
      %2 = tanh %1
      %3 = matmul %2, %v
      return %3
    }";
    assert_eq!(sets(rows), [(8, 1)]);
}

#[test]
fn names_of_values_that_are_others_now_are_gone() {
    let graph = filled(
        "graph @g (%x: f32[N,4]) {
          %w = const f32[4,4] splat 7
          %hidden = matmul %x, %w
          %out = matmul %hidden, %w
          return %out
        }",
    );
    // One weight for both products ties what is summed to what is given.
    assert_eq!(channels(&graph).len(), 0);
    let mut graph = graph;
    graph.nodes[1].args[1] = {
        let other = Random(3).eighths(vec![4, 4]);
        graph.add_const("v", other)
    };
    let sets = channels(&graph);
    let after = permute(&graph, &[(&sets[0], &[2, 0, 3, 1])], &Options::default()).unwrap().graph;
    let names: Vec<&str> = after.nodes.iter().map(|n| after.value(n.outs[0]).name.as_str()).collect();
    assert_eq!(names, ["", "out"]);
    for wrong in [&[0, 1, 2][..], &[0, 1, 2, 2], &[1, 2, 3, 4]] {
        assert!(permute(&graph, &[(&sets[0], wrong)], &Options::default()).is_err());
    }
}

/// Large weights stay where they are: their order is a recipe.
#[test]
fn large_weights_are_recipes() {
    let graph = filled(
        "graph @g (%x: f32[N,4]) {
          %w = const f32[4,2048] splat 7
          %b = const f32[2048] splat 7
          %v = const f32[2048,4] splat 7
          %0 = linear %x, %w, %b
          %1 = linear %0, %v
          return %1
        }",
    );
    let sets = channels(&graph);
    let order: Vec<usize> = (0..2048).rev().collect();
    assert_eq!(sets[0].writers.iter().map(|layer| layer.node.0).collect::<Vec<_>>(), [0]);
    let permuted = permute(&graph, &[(&sets[0], &order)], &Options::default()).unwrap();
    let after = permuted.graph;
    let lazy = |at: usize| {
        let id = after.constant(after.nodes[at / 4].args[at % 4]).unwrap();
        matches!(after.consts[id.0 as usize].data, ConstData::Recipe { .. })
    };
    assert_eq!([1, 2, 5].map(lazy), [true, false, true]);
    let read = after.constant(after.nodes[1].args[1]).unwrap();
    assert_eq!(permuted.weights.into_iter().collect::<Vec<_>>(), [read]);
}

/// Graphs of random operators over rows [N,c] and cubes [N,2,c].
struct Maker {
    graph: Graph,
    random: Random,
    values: Vec<ValueId>,
}

impl Maker {
    fn shape(&self, v: ValueId) -> Vec<Dim> {
        self.graph.ty(v).shape.clone()
    }

    fn constant(&mut self, shape: &[usize]) -> ValueId {
        let tensor = self.random.eighths(shape.to_vec());
        self.graph.add_const("", tensor)
    }

    /// One of the operators.
    fn add(&mut self, ops: &[&str], attrs: Attrs, args: Vec<ValueId>) {
        let op = OpId::of(ops[self.random.below(ops.len())]).unwrap();
        let outs = self.graph.add(op, attrs, args, &"".into()).unwrap();
        self.values.extend(outs);
    }

    fn step(&mut self) {
        // The latest values more often, so that chains grow.
        let back = self.random.below(self.values.len()).min(self.random.below(4));
        let v = self.values[self.values.len() - 1 - back];
        let shape = self.shape(v);
        let (rank, last) = (shape.len(), shape[shape.len() - 1].as_usize().unwrap());
        let axis = |axis: usize| ("axis", Attr::Int(axis as i64));
        match self.random.below(14) {
            0..=3 => {
                let width = [4, 6, 8][self.random.below(3)];
                let w = self.constant(&[last, width]);
                self.add(&["matmul", "linear"], Attrs::default(), vec![v, w]);
            }
            4 => {
                let b = self.constant(&[last]);
                self.add(&["add", "mul", "max"], Attrs::default(), vec![v, b]);
            }
            5 => self.add(&["abs", "neg", "tanh"], Attrs::default(), vec![v]),
            6 | 7 => {
                let same: Vec<ValueId> =
                    self.values.iter().copied().filter(|w| self.shape(*w) == shape).collect();
                let other = same[self.random.below(same.len())];
                self.add(&["add", "min"], Attrs::default(), vec![v, other]);
            }
            8 => {
                let [s, t] = [self.constant(&[last]), self.constant(&[last])];
                self.add(&["layer_norm"], Attrs::new([("epsilon", Attr::float(1.0))]), vec![v, s, t]);
            }
            9 => self.add(&["softmax"], Attrs::default(), vec![v]),
            10 if rank == 2 => {
                let dims = Attr::Dims(vec![shape[0].clone(), 2.into(), (last / 2).into()]);
                self.add(&["reshape"], Attrs::new([("shape", dims)]), vec![v]);
            }
            10 => {
                let flags = [("axes", Attr::Ints(vec![1])), ("keepdims", Attr::Int(0))];
                self.add(&["reduce_sum"], Attrs::new(flags), vec![v]);
            }
            11 => self.add(&["concat"], Attrs::new([axis(rank - 1)]), vec![v, v]),
            12 => {
                let at = self.random.below(rank - 1) + 1;
                self.add(&["cum_sum"], Attrs::new([axis(at)]), vec![v]);
            }
            _ => {
                let half: Vec<Dim> = shape[..rank - 1].iter().cloned().chain([(last / 2).into()]).collect();
                let attrs = Attrs::new([
                    ("starts", Attr::Dims(vec![0.into(); rank])),
                    ("sizes", Attr::Dims(half)),
                    ("steps", Attr::Ints(vec![1; rank])),
                ]);
                self.add(&["slice"], attrs, vec![v]);
            }
        }
    }
}

#[test]
fn random_graphs_compute_the_same() {
    let mut found = 0;
    for seed in 1..=200 {
        let mut maker = Maker {
            graph: parse("graph @g (%x: f32[N,8]) { return }").unwrap(),
            random: Random(seed * 0x9e37_79b9),
            values: vec![ValueId(0)],
        };
        (0..14).for_each(|_| maker.step());
        let mut graph = maker.graph;
        let read: Vec<ValueId> = graph.nodes.iter().flat_map(|n| n.args.clone()).collect();
        let ends = maker.values.iter().filter(|v| !read.contains(v));
        graph.outputs = ends
            .enumerate()
            .map(|(i, v)| autoglm_ir::graph::Output { name: format!("{i}"), value: *v })
            .collect();
        found += checked(&graph, &format!("seed {seed}")).len();
    }
    assert!(found > 100, "{found}");
}
