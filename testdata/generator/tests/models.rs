//! What the generated models must be: as large as published, the same on every call, and readable.

#![allow(clippy::unwrap_used, reason = "a helper of the tests may panic as they do")]

use autoglm_compiler::import::{ImportOptions, import};
use autoglm_compiler::onnx::{Limits, from_bytes, open};
use autoglm_generator::{Checkpoint, Model, Seeded, Storage, Weights as _, bert, cnn, resnet};
use autoglm_ir::{ConstId, interp};

fn small_bert() -> bert::Config {
    bert::Config {
        hidden: 32,
        layers: 1,
        heads: 2,
        intermediate: 64,
        vocabulary: 50,
        positions: 16,
        batch: "batch".into(),
        sequence: "sequence".into(),
        ..bert::Config::default()
    }
}

fn bytes(model: &Model) -> Vec<u8> {
    model.to_bytes(&Seeded::default()).unwrap()
}

/// The paper of ResNet says 25.6 M, torchvision's documentation 25557032; Hugging Face counts 109482240 for BERT-Base.
#[test]
fn parameter_counts_are_the_published_ones() {
    assert_eq!(resnet::model(&resnet::Config::default()).unwrap().parameter_count(), 25_557_032);
    assert_eq!(bert::model(&bert::Config::default()).unwrap().parameter_count(), 109_482_240);
    let large =
        bert::Config { hidden: 1024, layers: 24, heads: 16, intermediate: 4096, ..Default::default() };
    assert_eq!(bert::model(&large).unwrap().parameter_count(), 335_141_888);
}

#[test]
fn bytes_are_the_same_on_every_call() {
    let model = bert::model(&small_bert()).unwrap();
    assert_eq!(blake3::hash(&bytes(&model)), blake3::hash(&bytes(&bert::model(&small_bert()).unwrap())));
    let other = model.to_bytes(&Seeded { seed: 1 }).unwrap();
    assert_ne!(bytes(&model), other);
}

/// Bit patterns from an implementation in Python with exact integers and IEEE doubles.
#[test]
fn seeded_weights_are_those_of_every_machine() {
    let model = resnet::model(&resnet::Config { width: 4, classes: 3, ..Default::default() }).unwrap();
    let bias = model.parameters().iter().find(|p| p.name == "fc.bias").unwrap();
    let values = Seeded { seed: 7 }.values(bias).unwrap();
    let bits: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
    assert_eq!(bits, [0xbc7a_1baf, 0x3d01_fd8c, 0x3c3a_748d]);
}

#[test]
fn every_variant_is_imported() {
    let mut models = vec![
        resnet::model(&resnet::Config { width: 4, blocks: [1, 2, 1, 1], ..Default::default() }).unwrap(),
        cnn::model(&cnn::Config::default()).unwrap(),
        cnn::model(&cnn::Config { batch: 2.into(), size: [33.into(), 32.into()], ..Default::default() })
            .unwrap(),
    ];
    for opset in [13, 17, 18, 21] {
        for (batch, sequence) in [("batch".into(), "sequence".into()), (2.into(), 5.into())] {
            let config = bert::Config { opset, batch, sequence, ..small_bert() };
            models.push(bert::model(&config).unwrap());
            let norm = Some(bert::Norm::Decomposed);
            models.push(bert::model(&bert::Config { norm, ..config }).unwrap());
        }
    }
    for model in &models {
        let file = from_bytes(bytes(model).into(), &Limits::default()).unwrap();
        import(&file, &ImportOptions::default()).unwrap();
    }
}

#[test]
fn external_data_has_the_same_weights() {
    let dir = std::env::temp_dir().join(format!("autoglm-generator-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("m.onnx");
    let model = bert::model(&small_bert()).unwrap();
    model.write(&path, &Seeded::default(), Storage::External).unwrap();
    let outside = import(&open(&path, &Limits::default()).unwrap(), &ImportOptions::default()).unwrap();
    let inside = from_bytes(bytes(&model).into(), &Limits::default()).unwrap();
    let inside = import(&inside, &ImportOptions::default()).unwrap();
    assert_eq!(autoglm_ir::text::print(&outside.graph), autoglm_ir::text::print(&inside.graph));
    assert_eq!(outside.graph.consts.len(), inside.graph.consts.len());
    for id in (0..inside.graph.consts.len() as u32).map(ConstId) {
        let tensor = |g| interp::const_tensor(g, id).unwrap();
        assert_eq!(tensor(&outside.graph), tensor(&inside.graph));
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Every seeded tensor, written as a checkpoint would have it, gives the same model again.
#[test]
fn checkpoints_give_their_weights() {
    use safetensors::tensor::{Dtype, TensorView, serialize};
    let model = bert::model(&small_bert()).unwrap();
    let seeded = Seeded { seed: 3 };
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = model
        .parameters()
        .iter()
        .map(|p| {
            let values = seeded.values(p).unwrap();
            let old = p
                .name
                .replace("LayerNorm.weight", "LayerNorm.gamma")
                .replace("LayerNorm.bias", "LayerNorm.beta");
            (format!("bert.{old}"), p.dims.clone(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let views = data.iter().map(|(n, d, b)| (n, TensorView::new(Dtype::F32, d.clone(), b).unwrap()));
    let file = Checkpoint::from_bytes(serialize(views, None).unwrap()).unwrap();
    assert_eq!(model.to_bytes(&file).unwrap(), model.to_bytes(&seeded).unwrap());
    let other = bert::model(&bert::Config { vocabulary: 51, ..small_bert() }).unwrap();
    let error = other.to_bytes(&file).unwrap_err().to_string();
    assert!(error.contains("word_embeddings") && error.contains("[50, 32]"), "{error}");
    let error =
        bert::model(&bert::Config { layers: 2, ..small_bert() }).unwrap().to_bytes(&file).unwrap_err();
    assert!(error.to_string().contains("has no tensor `encoder.layer.1."), "{error}");
    assert!(Checkpoint::from_bytes(vec![1, 2, 3]).is_err());
}

#[test]
fn impossible_settings_are_refused() {
    for config in [
        bert::Config { heads: 5, ..small_bert() },
        bert::Config { sequence: 17.into(), ..small_bert() },
        bert::Config { opset: 12, ..small_bert() },
        bert::Config { opset: 16, norm: Some(bert::Norm::Operator), ..small_bert() },
        bert::Config { layers: 0, ..small_bert() },
    ] {
        assert!(bert::model(&config).is_err(), "{config:?}");
    }
    assert!(cnn::model(&cnn::Config { width: 6, ..Default::default() }).is_err());
    let huge = bert::Config { hidden: 8192, heads: 64, intermediate: 32768, ..Default::default() };
    let error = bert::model(&huge).unwrap().to_bytes(&Seeded::default()).unwrap_err().to_string();
    assert!(error.contains("externally"), "{error}");
}
