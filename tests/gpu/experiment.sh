#!/usr/bin/env bash
# The experiment that was published, on whatever the engine computes on: ten pictures and five questions handed in together.
# Prints how long each kind took, and the most memory as the daemon counts it and as nvidia-smi does, and leaves the page and the
# curves behind.
#
#     tests/gpu/experiment.sh ENGINE OUT      ENGINE: gpusched-engine-cuda; OUT: a directory, which is made
#
# Set in the environment:
#   MODEL     flux2-klein-4b, -9b (made of random numbers where it is not there), or one of models/weights  [flux2-klein-4b]
#   SIZE      of the pictures, in pixels          [1024]
#   PICTURES, QUESTIONS                           [10, 5]
#   MODELS    where large models lie, or are put  [target/cuda/models]
#   PROGRAMS  where gpuschedd and gpuctl are      [target/debug]
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: $0 ENGINE OUT" >&2; exit 2; }
cd "$(dirname "$0")/../.."
engine=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
model=${MODEL:-flux2-klein-4b} size=${SIZE:-1024} pictures=${PICTURES:-10} questions=${QUESTIONS:-5}
models=${MODELS:-$PWD/target/cuda/models} programs=${PROGRAMS:-$PWD/target/debug}

if [ ! -e "models/weights/$model" ] && [ ! -e "$models/$model" ]; then
    # Under another name until it is whole.
    rm -rf "$models/new" && mkdir -p "$models/new"
    cargo run --quiet --release --package gpusched-models --example random_klein -- "$model" "$models/new/$model"
    mv "$models/new/$model" "$models/$model"
fi

home=$(mktemp -d)
export GPUSCHED_SOCKET=$home/gpusched.sock
cat >"$home/gpusched.toml" <<TOML
socket = "$GPUSCHED_SOCKET"
state_dir = "$home/state"
models = ["$models", "$PWD/models/weights"]

[engine]
backend = "cuda"

[engine.cuda]
program = "$engine"
TOML
"$programs/gpuschedd" serve --config "$home/gpusched.toml" >"$out/daemon.log" 2>&1 &
daemon=$!
watcher=""
end() {
    [ -z "$watcher" ] || kill "$watcher" 2>/dev/null || true
    kill "$daemon" 2>/dev/null || true
    wait
    rm -rf "$home"
}
trap end EXIT
until "$programs/gpuctl" status --quiet >/dev/null 2>&1; do
    kill -0 "$daemon" 2>/dev/null || { tail -3 "$out/daemon.log" >&2; exit 1; }
    sleep 0.2
done
grep -o 'the engine computes on .*' "$out/daemon.log"

# The curve of the whole device, beside the daemon's own in the report.
if nvidia-smi --query-gpu=memory.used --format=csv >/dev/null 2>&1; then
    nvidia-smi --query-gpu=timestamp,memory.used,utilization.gpu --format=csv --loop-ms=200 >"$out/nvidia-smi.csv" &
    watcher=$!
fi

jobs=()
submit() {
    jobs+=("$("$programs/gpuctl" submit "$@" --detach --quiet)")
}
for ((i = 1; i <= pictures; i++)); do
    submit txt2img "a red circle" --model "$model" --size "$size" --seed "$i" --steps 4
done
for ((i = 1; i <= questions; i++)); do
    submit vqa models/weights/flux2-klein-tiny/samples.png "what color is the shape?"
done
failed=0
for job in "${jobs[@]}"; do
    "$programs/gpuctl" watch --quiet "$job" >/dev/null || failed=$((failed + 1))
done

"$programs/gpuctl" jobs --all --limit 1000 --json >"$out/jobs.json"
"$programs/gpuctl" status --json >"$out/status.json"
"$programs/gpuctl" report --quiet --output "$out/report.html" >/dev/null
"$programs/gpuctl" export --format jsonl >"$out/timeline.jsonl"
curl --silent --unix-socket "$home/metrics.sock" http://localhost/metrics >"$out/metrics.txt"
python3 tests/gpu/summary.py "$out"
[ "$failed" -eq 0 ] || { echo "$failed of ${#jobs[@]} jobs failed; see $out/jobs.json and daemon.log" >&2; exit 1; }
