#!/usr/bin/env bash
# Does the engine for CUDA build with NVIDIA's compiler? Builds it as it is shipped, for GPUs of compute capability 8.0 and later
# (CUDA_COMPUTE_CAP), and says with what, how long it took, how large it is and what it asks the loader for. No GPU is needed.
# The compiler is the one on PATH, or else NVIDIA's wheels (toolkit.sh). It takes a quarter of an hour of a core.
set -euo pipefail
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/cuda} CARGO_INCREMENTAL=0
mkdir -p "$CARGO_TARGET_DIR"

if ! command -v nvcc >/dev/null; then
    tests/gpu/toolkit.sh "$CARGO_TARGET_DIR/toolkit"
    # shellcheck disable=SC1091 # made by the line above
    . "$CARGO_TARGET_DIR/toolkit/env"
fi
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80} CUDAFORGE_THREADS=${CUDAFORGE_THREADS:-$(nproc)}

began=$SECONDS
cargo build --release --locked --manifest-path daemon/engine/cuda/Cargo.toml --bins
program=$CARGO_TARGET_DIR/release/gpusched-engine-cuda

printf '\n'
nvcc --version | tail -2 | head -1
cc --version | head -1
rustc --version
printf 'compute capability %s\n' "$CUDA_COMPUTE_CAP"
printf '%s: %s bytes, built in %s s\n' "$program" "$(stat -c %s "$program")" $((SECONDS - began))
printf 'needs %s\n' "$(readelf --dynamic "$program" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | paste -sd ' ')"

# The functions that the engine stands in for are its own, and the others are asked of the driver.
symbols=$(nm --dynamic "$program")
for own in cuMemAllocAsync cuMemFreeAsync cuStreamCreate cuLaunchKernel cudaLaunchKernel __cudaLaunchKernel cublasGemmStridedBatchedEx; do
    grep -q " T $own\$" <<<"$symbols" || { echo "$own is not the engine's own: libraries would pass it by" >&2; exit 1; }
done
grep -q ' U cuMemAllocFromPoolAsync$' <<<"$symbols" || { echo "the driver is not linked" >&2; exit 1; }
