# Sourced by .ci/run, from the root of the repository: models with trained weights against independent outputs.

# Build the models and the data into target/real.
real_data() {
    local target=${CARGO_TARGET_DIR:-target}
    python_ready
    sh testdata/real/build.sh "$target/real" "$target/release/autoglm-generator"
}

# Compile a model and hold its engine against the expected outputs of its data folder.
real_engine() { # data folder, model, limits...
    local autoglm=${CARGO_TARGET_DIR:-target}/release/autoglm real=${CARGO_TARGET_DIR:-target}/real
    local data=$1 model=$2
    shift 2
    "$autoglm" compile "$data/$model" -o "$real/exact.bin" --json >"$real/compile.json"
    "$real/venv/bin/python" testdata/real/evaluate.py --autoglm "$autoglm" --exact "$data/expected" --engine "$real/exact.bin" \
        --data "$data" --json "$real/report.json" "$@"
}

# The evaluator's own tests, and both exact engines.
real_run() {
    local real=${CARGO_TARGET_DIR:-target}/real
    "$real/venv/bin/python" -m unittest discover --quiet testdata/real
    real_engine testdata/digits digits.onnx --max-abs 1e-3 --min-cosine 0.999999 --max-drop 0 --min-agreement 1
    real_engine "$real/minilm" model.onnx --max-abs 1e-4 --min-cosine 0.999999 --min-spearman 0.9999
}
