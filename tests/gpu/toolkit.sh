#!/usr/bin/env bash
# NVIDIA's own compiler and libraries, from their wheels: what the engine for CUDA is built with where no toolkit is installed.
# It takes no GPU, no driver and no root, but Linux on x86-64, Python with pip, a C++ compiler, and 2 GB of disk.
#
#     tests/gpu/toolkit.sh DIR     makes DIR, once; it downloads 650 MB
#     . DIR/env                    this shell then builds with it
#
# What is built with it runs wherever NVIDIA's driver and these libraries are. libcuda is the driver's, and no wheel has it: where
# there is no driver, programs are linked with a library that has its functions' names and nothing else.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
printf 'Signature: 8a477f597d28d172789f06886806bc55\n# Made by tests/gpu/toolkit.sh; may be deleted at any time.\n' >"$dir/CACHEDIR.TAG"

if ! cmp -s "$here/toolkit.txt" "$dir/toolkit.txt"; then
    rm -rf "$dir/nvidia"
    python3 -m pip install --quiet --no-deps --require-hashes --only-binary=:all: --target "$dir" --upgrade -r "$here/toolkit.txt"
    cp "$here/toolkit.txt" "$dir/toolkit.txt"
fi

# The wheels have one root for all, named after the major version, with libraries by their full names only.
home=$dir/nvidia/cu13
ln -sfn lib "$home/lib64"
for library in "$home"/lib/lib*.so.*; do
    ln -sfn "${library##*/}" "${library%%.so.*}.so"
done

# The driver's functions, as cudarc names them.
if [ ! -e "$home/lib/libcuda.so" ]; then
    cudarc=$(cargo metadata --locked --format-version 1 --manifest-path "$here/../../daemon/engine/cuda/Cargo.toml" |
        python3 -c 'import json, sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"))')
    sed -n 's/.*fn \(cu[A-Z][A-Za-z0-9_]*\)(.*/void \1(void) {}/p' "${cudarc%/*}/src/driver/sys/mod.rs" | sort -u >"$dir/cuda.c"
    [ -s "$dir/cuda.c" ] || { echo "cudarc names no functions of the driver in ${cudarc%/*}" >&2; exit 1; }
    cc -shared -fPIC -Wl,-soname,libcuda.so.1 "$dir/cuda.c" -o "$home/lib/libcuda.so"
fi

cat >"$dir/env" <<ENV
# Made by tests/gpu/toolkit.sh. For \`.\` in a POSIX shell; to be read a second time does no harm.
export CUDA_HOME='$home' CUDA_PATH='$home' NVCC='$home/bin/nvcc' CUDA_COMPUTE_CAP="\${CUDA_COMPUTE_CAP:-80}"
unset CUDARC_CUDA_VERSION CUDA_ROOT CUDA_TOOLKIT_ROOT_DIR CUDNN_LIB
case ":\$PATH:" in *":$home/bin:"*) ;; *) export PATH='$home/bin'":\$PATH" ;; esac
ENV
