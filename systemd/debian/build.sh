#!/bin/sh
# Builds the Debian package from what install.sh installs, so that both have the same files:
#
#   cargo build --profile dist --workspace --bins
#   systemd/debian/build.sh                         # prints the path of the package, in target/debian
#
# PROGRAMS names another directory with gpuschedd and gpuctl; options go to cargo-deb (--fast compresses less). It needs
# cargo-deb (`cargo install --locked cargo-deb`) and, for dependencies by version, dpkg-dev.
set -eu
cd -- "$(dirname -- "$0")/../.."

root=$PWD/target/debian-root
rm -rf -- "$root"
DESTDIR=$root PREFIX=/usr ZSH_COMPLETIONS=/usr/share/zsh/vendor-completions PROGRAMS=${PROGRAMS-target/dist} \
    systemd/install.sh install
# Debian has the licences' texts itself, and one place to say which they are.
rm -- "$root/usr/share/doc/gpusched/LICENSE-MIT" "$root/usr/share/doc/gpusched/LICENSE-APACHE"
find "$root/usr/share/man" -type f -exec gzip -9n -- {} + 2>/dev/null || true
cargo deb --package gpusched-daemon --no-build --output target/debian/ "$@"
