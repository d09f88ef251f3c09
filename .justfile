# Recipes for `just` (https://just.systems). Everything here works without it: each line is what to type.

# What there is to do
_default:
    @just --list

# The programs, as they are shipped
build:
    cargo build --profile dist --workspace --bins

# All tests
test:
    cargo test --workspace

# The engine for CUDA over a driver in software: no GPU, no toolkit
softcuda:
    tests/softcuda/suite.sh

# The engine for CUDA, with NVIDIA's compiler: a quarter of an hour of a core, and no GPU
cuda-check:
    tests/gpu/check.sh

# On a machine with an NVIDIA GPU: what cannot be shown without one, with what is expected of each
gpu-accept *settings:
    tests/gpu/accept.sh {{ settings }}

# What CI does
ci:
    .ci/run

# Into the system, or with DESTDIR=... PREFIX=/usr below another directory
install *settings: build
    env PROGRAMS=target/dist {{ settings }} systemd/install.sh install

# Everything that install put there, with the same settings
uninstall *settings:
    env PROGRAMS=target/dist {{ settings }} systemd/install.sh uninstall

# target/debian/gpusched_*.deb
deb: build
    systemd/debian/build.sh

# A container image with podman
container: build
    podman build --tag gpusched --file systemd/container/Containerfile .
