#!/bin/sh
# Compiles the digits network and runs it on an image of a handwritten digit: sh testdata/digits/demo.sh [IMAGE.png]
set -eu
cd "$(dirname "$0")/../.."
here=testdata/digits
image=${1:-$(ls $here/images/digit-7*.png | head -n 1)}
out=${CARGO_TARGET_DIR:-target}/digits
mkdir -p "$out"
cargo build --quiet --release --bin autoglm
autoglm=${CARGO_TARGET_DIR:-target}/release/autoglm
"$autoglm" compile "$here/digits.onnx" -o "$out/digits.bin"
echo
echo "image: $image"
"$autoglm" run "$out/digits.bin" -i "image=@$image" --top 3 --labels "$here/labels.txt" --timing -o "$out/result"
echo
echo "engine: $out/digits.bin"
