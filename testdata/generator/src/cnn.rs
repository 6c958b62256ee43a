//! A convolutional network with dynamic batch, height and width that uses every form of convolution and pooling.

use crate::builder::{Builder, Extent, F32, float, int, ints, text};
use crate::weights::Init;
use crate::{Error, Model};

/// What to build.
#[derive(Clone, Debug)]
pub struct Config {
    /// Channels after the first convolution; a multiple of 4.
    pub width: usize,
    /// Number of classes.
    pub classes: usize,
    /// Batch extent.
    pub batch: Extent,
    /// Height and width of the image.
    pub size: [Extent; 2],
    /// ONNX operator set.
    pub opset: i64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            width: 16,
            classes: 10,
            batch: "batch".into(),
            size: ["height".into(), "width".into()],
            opset: 17,
        }
    }
}

/// A convolution with bias.
struct Conv<'a> {
    name: &'a str,
    channels: [usize; 2],
    kernel: [usize; 2],
    strides: [i64; 2],
    dilations: [i64; 2],
    /// Top, left, bottom, right.
    pads: [i64; 4],
    group: usize,
}

impl Conv<'_> {
    fn add(&self, b: &mut Builder, x: &str) -> String {
        let [from, to] = self.channels;
        let [kh, kw] = self.kernel;
        let inside = from / self.group;
        let init = Init::scaled(inside * kh * kw, 2.0);
        let weight = b.weight(&format!("{}.weight", self.name), &[to, inside, kh, kw], init);
        let bias = b.weight(&format!("{}.bias", self.name), &[to], Init::near(0.0));
        b.scope(&format!("/{}", self.name));
        let attributes = vec![
            ints("dilations", &self.dilations),
            int("group", self.group as i64),
            ints("kernel_shape", &[kh as i64, kw as i64]),
            ints("pads", &self.pads),
            ints("strides", &self.strides),
        ];
        b.node("Conv", &[x, &weight, &bias], attributes)
    }
}

/// A 1x1 convolution.
fn pointwise(name: &str, channels: [usize; 2]) -> Conv<'_> {
    Conv { name, channels, kernel: [1, 1], strides: [1, 1], dilations: [1, 1], pads: [0; 4], group: 1 }
}

/// Half the extents, with every kind of group, dilation and padding: `[batch, width, h, w]`.
fn trunk(b: &mut Builder, x: &str, c: usize) -> String {
    let stem = Conv { kernel: [3, 3], strides: [2, 2], pads: [1; 4], ..pointwise("stem", [3, c]) };
    let y = stem.add(b, x);
    let y = b.batch_norm(&y, "stem_norm", c, 1.0);
    let y = b.node("Relu", &[&y], vec![]);
    let depthwise =
        Conv { kernel: [3, 3], dilations: [2, 2], pads: [2; 4], group: c, ..pointwise("depthwise", [c, c]) };
    let y = depthwise.add(b, &y);
    let (low, high) = (b.f32(0.0), b.f32(6.0));
    let y = b.node("Clip", &[&y, &low, &high], vec![]);
    let grouped = Conv { kernel: [3, 1], pads: [2, 0, 0, 0], group: 4, ..pointwise("grouped", [c, c]) };
    let y = grouped.add(b, &y);
    let gate = b.node("Sigmoid", &[&y], vec![]);
    b.node("Mul", &[&y, &gate], vec![])
}

/// Pools with `ceil_mode`, two branches joined, enlarged again to the extents of `x`: `[batch, 2 width, h, w]`.
fn pyramid(b: &mut Builder, x: &str, c: usize) -> String {
    b.scope("/pyramid");
    let ceil = vec![
        int("ceil_mode", 1),
        ints("kernel_shape", &[3, 3]),
        ints("pads", &[1; 4]),
        ints("strides", &[2, 2]),
    ];
    let pooled = b.node("MaxPool", &[x], ceil);
    let branch = pointwise("branch", [c, c]).add(b, &pooled);
    b.scope("/pyramid");
    let mean = vec![
        int("count_include_pad", 0),
        ints("kernel_shape", &[3, 3]),
        ints("pads", &[1; 4]),
        ints("strides", &[1, 1]),
    ];
    let smooth = b.node("AveragePool", &[&pooled], mean);
    let both = b.node("Concat", &[&branch, &smooth], vec![int("axis", 1)]);
    // What `interpolate(both, size=x.shape[2:])` becomes: batch and channels of one shape, the rest of the other.
    let own = b.node("Shape", &[&both], vec![]);
    let (zero, two, four, axis) = (b.i64s(&[0]), b.i64s(&[2]), b.i64s(&[4]), b.i64s(&[0]));
    let head = b.node("Slice", &[&own, &zero, &two, &axis], vec![]);
    let other = b.node("Shape", &[x], vec![]);
    let tail = b.node("Slice", &[&other, &two, &four, &axis], vec![]);
    let sizes = b.node("Concat", &[&head, &tail], vec![int("axis", 0)]);
    let attributes = vec![
        text("coordinate_transformation_mode", "asymmetric"),
        float("cubic_coeff_a", -0.75),
        text("mode", "nearest"),
        text("nearest_mode", "floor"),
    ];
    b.node("Resize", &[&both, "", "", &sizes], attributes)
}

/// The graph: input `input` f32\[batch, 3, h, w\], outputs `classes` f32\[batch, classes\] and `map`
/// f32\[batch, 1, 2 ceil(h / 2), 2 ceil(w / 2)\].
pub fn model(config: &Config) -> Result<Model, Error> {
    let c = config.width;
    if c == 0 || !c.is_multiple_of(4) || config.classes == 0 {
        let what = format!("a width of {c} and {} classes: need a multiple of 4, and one", config.classes);
        return Err(Error::Setting(what));
    }
    let mut b = Builder::new("cnn", config.opset)?;
    let [h, w] = config.size.clone();
    let doubled = |e: &Extent, name: &str| match e {
        Extent::Fixed(v) => Extent::Fixed((v + 1) / 2 * 2),
        Extent::Named(_) => Extent::from(name),
    };
    let map = [config.batch.clone(), 1.into(), doubled(&h, "map_height"), doubled(&w, "map_width")];
    let x = b.input("input", F32, &[config.batch.clone(), 3.into(), h, w]);
    b.output("classes", &[config.batch.clone(), (config.classes as i64).into()]);
    b.output("map", &map);
    let y = trunk(&mut b, &x, c);
    let wide = pyramid(&mut b, &y, c);
    let joined = b.node("Concat", &[&y, &wide], vec![int("axis", 1)]);
    let mixed = pointwise("mix", [3 * c, 2 * c]).add(&mut b, &joined);
    let mixed = b.node("Relu", &[&mixed], vec![]);
    b.scope("/head");
    let pooled = b.node("GlobalAveragePool", &[&mixed], vec![]);
    let flat = b.node("Flatten", &[&pooled], vec![int("axis", 1)]);
    let weight = b.weight("head.weight", &[config.classes, 2 * c], Init::scaled(2 * c, 1.0));
    let bias = b.weight("head.bias", &[config.classes], Init::near(0.0));
    let attributes = vec![float("alpha", 1.0), float("beta", 1.0), int("transB", 1)];
    b.last("Gemm", &[&flat, &weight, &bias], attributes, "classes");
    let map = pointwise("map", [2 * c, 1]).add(&mut b, &mixed);
    b.scope("/map");
    let (nothing, scales) = (String::new(), b.constant(scales(&[1.0, 1.0, 2.0, 2.0])));
    let attributes = vec![text("coordinate_transformation_mode", "half_pixel"), text("mode", "linear")];
    b.last("Resize", &[&map, &nothing, &scales], attributes, "map");
    Ok(b.finish())
}

fn scales(values: &[f32]) -> autoglm_compiler::onnx::proto::TensorProto {
    autoglm_compiler::onnx::proto::TensorProto {
        dims: vec![values.len() as i64],
        data_type: F32,
        float_data: values.into(),
        ..Default::default()
    }
}
