#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: all that cannot be shown without one, each with what is expected of it. No root, nothing
# installed, nothing downloaded but NVIDIA's compiler where there is none (toolkit.sh).
#
#     tests/gpu/accept.sh [OUT]      OUT: where the experiment leaves its curves and its page [target/cuda/acceptance]
#
# 1. The engine, built for this GPU (check.sh).
# 2. Its checks (daemon/engine/cuda/examples/accept): partitions, priorities, bounds, parity, a broken context. Each line says what
#    is expected and whether it was seen; the exit code is 0 if all was.
# 3. The published experiment with a FLUX.2 klein of full size and random weights (experiment.sh, where MODEL and SIZE are told).
#    Expected: every job is done; a question's latency is far below a picture's; what nvidia-smi shows beyond its first value is
#    what the daemon counts, and the libraries' workspaces.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v nvidia-smi >/dev/null || { echo "there is no nvidia-smi here, so no driver of NVIDIA's" >&2; exit 1; }
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1)
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-${capability/./}}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/cuda} CARGO_INCREMENTAL=0
nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv

tests/gpu/check.sh
if [ -e "$CARGO_TARGET_DIR/toolkit/env" ]; then
    # shellcheck disable=SC1091 # made by check.sh
    . "$CARGO_TARGET_DIR/toolkit/env"
    # Libraries, but libcuda, which is the driver's: the one there has another file name.
    export LD_LIBRARY_PATH=$CUDA_HOME/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
"$CARGO_TARGET_DIR/release/gpusched-engine-cuda" probe

status=0
cargo run --release --locked --manifest-path daemon/engine/cuda/Cargo.toml --example accept || status=1

(unset CARGO_TARGET_DIR && cargo build --workspace --bins)
tests/gpu/experiment.sh "$CARGO_TARGET_DIR/release/gpusched-engine-cuda" "${1:-$CARGO_TARGET_DIR/acceptance}" || status=1
exit "$status"
