# Sourced by .ci/run, from the root of the repository: the size of a program that only runs engines on the CPU.

# Build the example `run_engine`, strip it and fail if it is larger than 5 MB.
runner_size() {
    local target=${CARGO_TARGET_DIR:-target} limit=5000000 size
    cargo rustc --locked --release --package autoglm-runtime --example run_engine -- -C strip=symbols
    size=$(wc -c <"$target/release/examples/run_engine")
    printf 'run_engine: %d bytes, at most %d\n' "$size" "$limit"
    ((size <= limit))
}
