//! BERT encoders, as the TorchScript exporter writes Hugging Face's model.

mod attention;
mod norm;

use crate::builder::{BOOL, Builder, Extent, F32, I64, float, i64_tensor, int, tensor};
use crate::weights::Init;
use crate::{Error, Model};
use attention::attention;
use norm::layer_norm;

/// How layer normalisation is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// The operator `LayerNormalization`, which operator set 17 added.
    Operator,
    /// Mean, difference, power, mean, square root and quotient.
    Decomposed,
}

/// What to build; the default is BERT-Base (uncased) for one sequence of 128 tokens.
#[derive(Clone, Debug)]
pub struct Config {
    /// Features of a token.
    pub hidden: usize,
    /// Encoder layers.
    pub layers: usize,
    /// Attention heads; divides `hidden`.
    pub heads: usize,
    /// Features inside the feed-forward part.
    pub intermediate: usize,
    /// Number of tokens.
    pub vocabulary: usize,
    /// Longest sequence.
    pub positions: usize,
    /// Token types.
    pub types: usize,
    /// Whether the pooled output is there.
    pub pooler: bool,
    /// Batch extent.
    pub batch: Extent,
    /// Sequence extent.
    pub sequence: Extent,
    /// ONNX operator set.
    pub opset: i64,
    /// How layer normalisation is written; by default the operator where the operator set has it.
    pub norm: Option<Norm>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            hidden: 768,
            layers: 12,
            heads: 12,
            intermediate: 3072,
            vocabulary: 30522,
            positions: 512,
            types: 2,
            pooler: true,
            batch: 1.into(),
            sequence: 128.into(),
            opset: 17,
            norm: None,
        }
    }
}

impl Config {
    fn check(&self) -> Result<Norm, Error> {
        let sizes = [self.hidden, self.layers, self.heads, self.intermediate];
        if sizes.contains(&0) || self.vocabulary == 0 || self.positions == 0 || self.types == 0 {
            return Err(Error::Setting("all sizes must be positive".into()));
        }
        if !self.hidden.is_multiple_of(self.heads) {
            let what = format!("{} features cannot be shared by {} heads", self.hidden, self.heads);
            return Err(Error::Setting(what));
        }
        if let Extent::Fixed(v) = self.sequence
            && v > self.positions as i64
        {
            let what = format!("a sequence of {v} needs as many positions, not {}", self.positions);
            return Err(Error::Setting(what));
        }
        match self.norm {
            Some(Norm::Operator) if self.opset < 17 => {
                Err(Error::Setting("LayerNormalization needs operator set 17".into()))
            }
            Some(norm) => Ok(norm),
            None if self.opset < 17 => Ok(Norm::Decomposed),
            None => Ok(Norm::Operator),
        }
    }
}

/// Batch and sequence as the graph knows them: numbers, or rank-0 tensors taken from a shape.
struct Extents {
    batch: Known,
    sequence: Known,
}

/// An extent as a number or as the name of a rank-0 tensor.
enum Known {
    Number(i64),
    Tensor(String),
}

impl Extents {
    /// The extents of `x`, `[batch, sequence, ..]`. The exporter takes them anew in every module.
    fn of(b: &mut Builder, config: &Config, x: &str) -> Extents {
        let mut one = |extent: &Extent, axis| match extent {
            Extent::Fixed(v) => Known::Number(*v),
            Extent::Named(_) => Known::Tensor(b.extent_of(x, axis)),
        };
        Extents { batch: one(&config.batch, 0), sequence: one(&config.sequence, 1) }
    }
}

/// A shape of numbers and extents: one constant, or a `Concat` of vectors of one element.
fn shape(b: &mut Builder, parts: &[&Known]) -> String {
    let numbers: Option<Vec<i64>> =
        parts.iter().map(|p| if let Known::Number(v) = p { Some(*v) } else { None }).collect();
    if let Some(numbers) = numbers {
        return b.i64s(&numbers);
    }
    let vectors: Vec<String> = parts
        .iter()
        .map(|p| match p {
            Known::Number(v) => b.i64s(&[*v]),
            Known::Tensor(name) => b.unsqueeze(name, 0),
        })
        .collect();
    let vectors: Vec<&str> = vectors.iter().map(String::as_str).collect();
    b.node("Concat", &vectors, vec![int("axis", 0)])
}

/// `x W^T + b` on the last axis, with `W` stored transposed.
fn linear(b: &mut Builder, x: &str, path: &str, from: usize, to: usize) -> String {
    b.scope(&format!("/{}", path.replace('.', "/")));
    let weight = b.transposed(&format!("{path}.weight"), [to, from], Init::scaled(from, 1.0));
    let bias = b.weight(&format!("{path}.bias"), &[to], Init::near(0.0));
    let y = b.node("MatMul", &[x, &weight], vec![]);
    b.node("Add", &[&bias, &y], vec![])
}

/// The sum of the three embeddings, normalised.
fn embeddings(b: &mut Builder, config: &Config, norm: Norm, ids: &str, types: &str) -> String {
    b.scope("/embeddings");
    let table = |b: &mut Builder, what: &str, rows: usize| {
        let init = Init::Normal { mean: 0.0, std: 0.5 };
        b.weight(&format!("embeddings.{what}.weight"), &[rows, config.hidden], init)
    };
    let words = table(b, "word_embeddings", config.vocabulary);
    let positions = table(b, "position_embeddings", config.positions);
    let kinds = table(b, "token_type_embeddings", config.types);
    let place = match &config.sequence {
        Extent::Fixed(n) => b.constant(i64_tensor(&[1, *n], &(0..*n).collect::<Vec<_>>())),
        Extent::Named(_) => {
            let length = b.extent_of(ids, 1);
            let all: Vec<i64> = (0..config.positions as i64).collect();
            let all = b.constant(i64_tensor(&[1, all.len() as i64], &all));
            let (start, axes) = (b.i64s(&[0]), b.i64s(&[1]));
            let end = b.unsqueeze(&length, 0);
            let step = b.i64s(&[1]);
            b.node("Slice", &[&all, &start, &end, &axes, &step], vec![])
        }
    };
    let word = b.node("Gather", &[&words, ids], vec![]);
    let kind = b.node("Gather", &[&kinds, types], vec![]);
    let sum = b.node("Add", &[&word, &kind], vec![]);
    let place = b.node("Gather", &[&positions, &place], vec![]);
    let sum = b.node("Add", &[&sum, &place], vec![]);
    layer_norm(b, &sum, "embeddings.LayerNorm", config.hidden, norm, None)
}

/// The attention mask as what is added to scores: 0 where a token counts, the lowest number where it does not, for
/// every query: `[batch, 1, sequence, sequence]`.
fn expanded_mask(b: &mut Builder, config: &Config, mask: &str) -> String {
    b.scope("");
    let Extents { batch, sequence } = Extents::of(b, config, mask);
    let rows = b.unsqueeze(mask, 1);
    let rows = b.unsqueeze(&rows, 2);
    let wanted = shape(b, &[&batch, &Known::Number(1), &sequence, &sequence]);
    // `expand` takes -1 for "as it is", which the exporter replaces by 1 in the graph.
    let all = b.i64s(&[-1]);
    let wanted = b.node("Reshape", &[&wanted, &all], vec![]);
    let rank = b.node("Shape", &[&wanted], vec![]);
    let ones = b.node("ConstantOfShape", &[&rank], vec![tensor("value", i64_tensor(&[1], &[1]))]);
    let minus = b.i64(-1);
    let kept = b.node("Mul", &[&ones, &minus], vec![]);
    let open = b.node("Equal", &[&wanted, &kept], vec![]);
    let wanted = b.node("Where", &[&open, &ones, &wanted], vec![]);
    let expanded = b.node("Expand", &[&rows, &wanted], vec![]);
    let expanded = b.node("Cast", &[&expanded], vec![int("to", F32.into())]);
    let one = b.f32(1.0);
    let inverted = b.node("Sub", &[&one, &expanded], vec![]);
    let hidden = b.node("Cast", &[&inverted], vec![int("to", BOOL.into())]);
    let lowest = b.f32(f32::MIN);
    b.node("Where", &[&hidden, &lowest, &inverted], vec![])
}

/// `0.5 x (1 + erf(x / sqrt 2))`.
fn gelu(b: &mut Builder, x: &str) -> String {
    let root = b.f32(std::f32::consts::SQRT_2);
    let y = b.node("Div", &[x, &root], vec![]);
    let y = b.node("Erf", &[&y], vec![]);
    let one = b.f32(1.0);
    let y = b.node("Add", &[&y, &one], vec![]);
    let y = b.node("Mul", &[x, &y], vec![]);
    let half = b.f32(0.5);
    b.node("Mul", &[&y, &half], vec![])
}

/// The graph: inputs `input_ids`, `attention_mask` and `token_type_ids` i64\[batch, sequence\], outputs
/// `last_hidden_state` f32\[batch, sequence, hidden\] and, with the pooler, `pooler_output` f32\[batch, hidden\].
pub fn model(config: &Config) -> Result<Model, Error> {
    let norm = config.check()?;
    let mut b = Builder::new("bert", config.opset)?;
    let dims = [config.batch.clone(), config.sequence.clone()];
    let [ids, mask, types] =
        ["input_ids", "attention_mask", "token_type_ids"].map(|n| b.input(n, I64, &dims));
    let hidden = Extent::Fixed(config.hidden as i64);
    b.output("last_hidden_state", &[config.batch.clone(), config.sequence.clone(), hidden.clone()]);
    let mut x = embeddings(&mut b, config, norm, &ids, &types);
    let mask = expanded_mask(&mut b, config, &mask);
    for layer in 0..config.layers {
        let path = format!("encoder.layer.{layer}");
        let context = attention(&mut b, config, &path, &x, &mask);
        let y =
            linear(&mut b, &context, &format!("{path}.attention.output.dense"), config.hidden, config.hidden);
        let sum = b.node("Add", &[&y, &x], vec![]);
        x = layer_norm(
            &mut b,
            &sum,
            &format!("{path}.attention.output.LayerNorm"),
            config.hidden,
            norm,
            None,
        );
        let y = linear(&mut b, &x, &format!("{path}.intermediate.dense"), config.hidden, config.intermediate);
        let y = gelu(&mut b, &y);
        let y = linear(&mut b, &y, &format!("{path}.output.dense"), config.intermediate, config.hidden);
        let sum = b.node("Add", &[&y, &x], vec![]);
        let last = (layer + 1 == config.layers).then_some("last_hidden_state");
        x = layer_norm(&mut b, &sum, &format!("{path}.output.LayerNorm"), config.hidden, norm, last);
    }
    if config.pooler {
        b.output("pooler_output", &[config.batch.clone(), hidden]);
        b.scope("/pooler/dense");
        let first = b.i64(0);
        let token = b.node("Gather", &[&x, &first], vec![int("axis", 1)]);
        let weight = b.weight(
            "pooler.dense.weight",
            &[config.hidden, config.hidden],
            Init::scaled(config.hidden, 1.0),
        );
        let bias = b.weight("pooler.dense.bias", &[config.hidden], Init::near(0.0));
        let attributes = vec![float("alpha", 1.0), float("beta", 1.0), int("transB", 1)];
        let y = b.node("Gemm", &[&token, &weight, &bias], attributes);
        b.last("Tanh", &[&y], vec![], "pooler_output");
    }
    Ok(b.finish())
}
