#!/usr/bin/env bash
# A stand-in for NVIDIA's toolkit: what candle's and cudarc's build scripts ask for, over the software driver of this directory.
#
#     tests/softcuda/toolkit.sh DIR     makes or renews DIR, in seconds
#     . DIR/env                         this shell then builds with feature `cuda` and runs what it built
#
# What is built with it is NOT DEPLOYABLE: no kernel is compiled, and every library is the software driver, by whose name
# (libsoftcuda.so) the programs ask for it, so that they do not start on a machine with NVIDIA's driver instead.
# Run it again at any time: what has not changed is left alone. In the repository DIR belongs below target/.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
export SOURCE_DATE_EPOCH=0

# put FILE: standard input, unless it is there already, so that nothing that depends on it is built anew.
put() {
    cat >"$1.new"
    if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; fi
}

mkdir -p "$dir"/{bin,include,lib64}
ln -sfn lib64 "$dir/lib"
put "$dir/CACHEDIR.TAG" <<'TAG'
Signature: 8a477f597d28d172789f06886806bc55
# Made by tests/softcuda/toolkit.sh; may be deleted at any time.
TAG
put "$dir/NOT-DEPLOYABLE" <<'TEXT'
A stand-in for NVIDIA's CUDA toolkit. Its compiler compiles nothing and its libraries are gpusched's software driver.
Programs built with it compute nothing on any GPU. Made by tests/softcuda/toolkit.sh, which says more.
TEXT

# The driver, in a target directory of its own: it needs nothing but the standard library and libc.
(cd "$here/../.." && env -u RUSTFLAGS CARGO_TARGET_DIR="$dir/build" cargo build --quiet --locked --package gpusched-softcuda --lib)
put "$dir/lib64/libsoftcuda.so" <"$dir/build/debug/libsoftcuda.so"
chmod 755 "$dir/lib64/libsoftcuda.so"
for name in libcuda.so{,.1} libcudart.so{,.13} libcublas.so{,.13} libcublasLt.so{,.13} libcurand.so{,.10} libnvrtc.so{,.13} \
    libnvidia-ml.so{,.1}; do
    ln -sfn libsoftcuda.so "$dir/lib64/$name"
done

put "$dir/include/cuda.h" <<'HEADER'
/* The stand-in toolkit's; nothing is compiled against it. */
#define CUDA_VERSION 13000
HEADER
if [ -e "$dir/bin/nvcc" ] && ! cmp -s "$here/nvcc" "$dir/bin/nvcc"; then
    # Cargo does not know that what candle-kernels has from the compiler is out of date.
    rm -rf "$dir"/../*/{build,.fingerprint}/candle-kernels-*
fi
put "$dir/bin/nvcc" <"$here/nvcc"
put "$dir/bin/nvidia-smi" <"$here/nvidia-smi"
chmod 755 "$dir"/bin/*

put "$dir/env" <<ENV
# Made by tests/softcuda/toolkit.sh. For \`.\` in a POSIX shell; to be read a second time does no harm.
export CUDA_HOME='$dir' CUDA_PATH='$dir' NVCC='$dir/bin/nvcc' CUDA_COMPUTE_CAP="\${CUDA_COMPUTE_CAP:-80}"
unset NVCC_CCBIN CUDARC_CUDA_VERSION CUDA_ROOT CUDA_TOOLKIT_ROOT_DIR CUDNN_LIB
case ":\$PATH:" in *":$dir/bin:"*) ;; *) export PATH='$dir/bin'":\$PATH" ;; esac
case ":\${LD_LIBRARY_PATH:-}:" in
    *":$dir/lib64:"*) ;;
    *) export LD_LIBRARY_PATH='$dir/lib64'"\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}" ;;
esac
ENV
