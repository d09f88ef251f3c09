#!/usr/bin/env bash
# What of CUDA can be shown without a GPU, on a machine without one and without NVIDIA's toolkit: everything that has feature
# `cuda` is built over the stand-in toolkit into target/softcuda, and run over the software driver. What it proves and what it
# does not: src/lib.rs. Arguments choose the steps whose names contain one of them.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
# As the caller builds the workspace, so that the daemon is not built once more.
workspace=(-u CARGO_TARGET_DIR -u CARGO_INCREMENTAL)
[ -z "${CARGO_INCREMENTAL-}" ] || workspace+=("CARGO_INCREMENTAL=$CARGO_INCREMENTAL")
export CARGO_TARGET_DIR=$root/target/softcuda CARGO_INCREMENTAL=0
chosen=("$@")

mkdir -p "$CARGO_TARGET_DIR"
printf 'Signature: 8a477f597d28d172789f06886806bc55\n' >"$CARGO_TARGET_DIR/CACHEDIR.TAG"
tests/softcuda/toolkit.sh "$CARGO_TARGET_DIR/toolkit"
# shellcheck disable=SC1091 # made by the line above
. "$CARGO_TARGET_DIR/toolkit/env"

times=""
step() {
    local name=$1 began=$SECONDS wanted
    shift
    if [ ${#chosen[@]} -gt 0 ]; then
        for wanted in "${chosen[@]}"; do
            case $name in *"$wanted"*) wanted="" && break ;; esac
        done
        [ -z "$wanted" ] || return 0
    fi
    printf '\n==> %s\n' "$name"
    "$@"
    times+=$(printf '%5d s  %s' $((SECONDS - began)) "$name")$'\n'
}

# Nothing that is built here may run by mistake where there is NVIDIA's driver: it asks for the software driver by name.
not_deployable() {
    local program
    for program in "$@"; do
        # `|| true`: readelf may be cut short by grep.
        { readelf --dynamic "$program" || true; } | grep -q 'NEEDED.*libsoftcuda\.so' || {
            echo "$program does not ask for libsoftcuda.so" >&2
            return 1
        }
    done
}

candle=(--locked --manifest-path tests/softcuda/candle/Cargo.toml)

step "build: candle" cargo build "${candle[@]}"
step "candle, unmodified" cargo run --quiet "${candle[@]}"
step "lints" cargo clippy "${candle[@]}" --all-targets -- -D warnings

# The engine, and the daemon with it. The daemon is the one that README's commands build: it links nothing of all this.
engine=(--locked --manifest-path daemon/engine/cuda/Cargo.toml)
program=$CARGO_TARGET_DIR/debug/gpusched-engine-cuda
daemon() {
    env "${workspace[@]}" GPUSCHED_CUDA_ENGINE="$program" \
        cargo test --workspace --test e2e cuda:: -- --nocapture
}

step "build: engine" cargo build "${engine[@]}" --bins
step "engine" cargo test "${engine[@]}" -- --nocapture
# What is to be seen on a GPU, as far as it does not depend on how fast that is; with kernels that compute.
step "engine: acceptance, rehearsed" env SOFTCUDA_NUMBERS=1 cargo run --quiet "${engine[@]}" --example accept -- \
    facts reservation contention flush parity poison
step "engine: lints" cargo clippy "${engine[@]}" --all-targets -- -D warnings
step "engine: documentation" env RUSTDOCFLAGS="-D warnings" cargo doc "${engine[@]}" --no-deps
step "daemon with the engine" daemon
step "experiment, rehearsed" env MODEL=flux2-klein-tiny SIZE=64 PICTURES=2 QUESTIONS=3 \
    tests/gpu/experiment.sh "$program" "$CARGO_TARGET_DIR/experiment"

step "not deployable" not_deployable "$CARGO_TARGET_DIR/debug/candle" "$program"

printf '\n%s%5d s  in all\n' "$times" "$SECONDS"
