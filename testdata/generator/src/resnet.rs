//! ResNet with bottleneck blocks, as torchvision defines it ("v1.5": the stride is in the 3x3 convolution).

use crate::builder::{Builder, Extent, F32, float, int, ints};
use crate::weights::Init;
use crate::{Error, Model};

/// Channels of a block's result for each channel of its width.
const EXPANSION: usize = 4;

/// What to build; the default is ResNet-50 for one image of 224x224.
#[derive(Clone, Debug)]
pub struct Config {
    /// Blocks in each of the four stages.
    pub blocks: [usize; 4],
    /// Channels after the first convolution and width of the first stage.
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
            blocks: [3, 4, 6, 3],
            width: 64,
            classes: 1000,
            batch: 1.into(),
            size: [224.into(), 224.into()],
            opset: 17,
        }
    }
}

/// A square convolution without bias, and the normalisation after it.
struct Unit<'a> {
    conv: &'a str,
    norm: &'a str,
    channels: [usize; 2],
    kernel: usize,
    stride: i64,
    gamma: f64,
}

fn unit(b: &mut Builder, x: &str, u: &Unit<'_>) -> String {
    let [from, to] = u.channels;
    let init = Init::scaled(from * u.kernel * u.kernel, 2.0);
    let weight = b.weight(&format!("{}.weight", u.conv), &[to, from, u.kernel, u.kernel], init);
    let (kernel, pad) = (u.kernel as i64, (u.kernel / 2) as i64);
    b.scope(&format!("/{}", u.conv.replace('.', "/")));
    let attributes = vec![
        ints("dilations", &[1, 1]),
        int("group", 1),
        ints("kernel_shape", &[kernel, kernel]),
        ints("pads", &[pad; 4]),
        ints("strides", &[u.stride, u.stride]),
    ];
    let y = b.node("Conv", &[x, &weight], attributes);
    b.scope(&format!("/{}", u.norm.replace('.', "/")));
    b.batch_norm(&y, u.norm, to, u.gamma)
}

/// `relu(x + conv(conv(conv(x))))`, with a projection of `x` where the extents change.
fn bottleneck(b: &mut Builder, x: &str, path: &str, from: usize, width: usize, stride: i64) -> String {
    let to = width * EXPANSION;
    let scope = format!("/{}", path.replace('.', "/"));
    let mut y = x.to_owned();
    let parts = [(from, width, 1, 1), (width, width, 3, stride), (width, to, 1, 1)];
    for (i, (from, to, kernel, stride)) in parts.into_iter().enumerate() {
        let (conv, norm) = (format!("{path}.conv{}", i + 1), format!("{path}.bn{}", i + 1));
        // The last normalisation is small, so that the variance does not grow with the number of blocks.
        let gamma = if i == 2 { 0.4 } else { 1.0 };
        y = unit(b, &y, &Unit { conv: &conv, norm: &norm, channels: [from, to], kernel, stride, gamma });
        if i < 2 {
            b.scope(&scope);
            y = b.node("Relu", &[&y], vec![]);
        }
    }
    let mut identity = x.to_owned();
    if stride != 1 || from != to {
        let (conv, norm) = (format!("{path}.downsample.0"), format!("{path}.downsample.1"));
        let u = Unit { conv: &conv, norm: &norm, channels: [from, to], kernel: 1, stride, gamma: 0.9 };
        identity = unit(b, x, &u);
    }
    b.scope(&scope);
    let sum = b.node("Add", &[&y, &identity], vec![]);
    b.node("Relu", &[&sum], vec![])
}

/// The graph, with torchvision's names: input `input` f32\[batch, 3, h, w\], output `output` f32\[batch, classes\].
pub fn model(config: &Config) -> Result<Model, Error> {
    if config.width == 0 || config.classes == 0 || config.blocks.contains(&0) {
        return Err(Error::Setting("widths, classes and blocks must be positive".into()));
    }
    let mut b = Builder::new("resnet", config.opset)?;
    let [h, w] = config.size.clone();
    let x = b.input("input", F32, &[config.batch.clone(), 3.into(), h, w]);
    b.output("output", &[config.batch.clone(), (config.classes as i64).into()]);
    let first =
        Unit { conv: "conv1", norm: "bn1", channels: [3, config.width], kernel: 7, stride: 2, gamma: 1.0 };
    let mut y = unit(&mut b, &x, &first);
    b.scope("");
    y = b.node("Relu", &[&y], vec![]);
    let pool = vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1; 4]), ints("strides", &[2, 2])];
    y = b.node("MaxPool", &[&y], pool);
    let mut channels = config.width;
    for (stage, blocks) in config.blocks.into_iter().enumerate() {
        let width = config.width << stage;
        for block in 0..blocks {
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            y = bottleneck(&mut b, &y, &format!("layer{}.{block}", stage + 1), channels, width, stride);
            channels = width * EXPANSION;
        }
    }
    b.scope("");
    y = b.node("GlobalAveragePool", &[&y], vec![]);
    y = b.node("Flatten", &[&y], vec![int("axis", 1)]);
    let weight = b.weight("fc.weight", &[config.classes, channels], Init::scaled(channels, 1.0));
    let bias = b.weight("fc.bias", &[config.classes], Init::near(0.0));
    b.scope("/fc");
    let attributes = vec![float("alpha", 1.0), float("beta", 1.0), int("transB", 1)];
    b.last("Gemm", &[&y, &weight, &bias], attributes, "output");
    Ok(b.finish())
}
