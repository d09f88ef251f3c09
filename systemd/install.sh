#!/bin/sh
# Installs gpusched, or removes it again, file by file:
#
#   systemd/install.sh [install|uninstall|list]
#
# Set in the environment:
#   DESTDIR    put before every path, for packages            [nothing]
#   PREFIX     where programs, units, models and manuals go   [/usr]
#   PROGRAMS   the directory with gpuschedd and gpuctl        [target/release of this repository]
#   CUDA_ENGINE  the engine for NVIDIA GPUs, if there is to be one  [gpusched-engine-cuda in PROGRAMS, if it is there]
#   ZSH_COMPLETIONS  where zsh looks for completions          [PREFIX/share/zsh/site-functions]
#
# Build first: cargo build --release --workspace --bins. What an operator has changed in /etc stays, also on removal; so does
# /var/lib/gpusched. Every file is named once in here, so that what is installed and what is removed are the same.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
top=$(dirname -- "$here")
DESTDIR=${DESTDIR-}
PREFIX=${PREFIX-/usr}
PROGRAMS=${PROGRAMS-$top/target/release}
CUDA_ENGINE=${CUDA_ENGINE-$PROGRAMS/gpusched-engine-cuda}
ZSH_COMPLETIONS=${ZSH_COMPLETIONS-$PREFIX/share/zsh/site-functions}
action=${1-install}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

case $action in
install | uninstall | list) ;;
*) fail "no such action: $action; say install, uninstall or list" ;;
esac
case $PREFIX in
/*) ;;
*) fail "PREFIX must begin with /, and is \"$PREFIX\"" ;;
esac

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

# put MODE SOURCE PATH: a file of ours.
put() {
    case $action in
    install) install -D -m "$1" -- "$2" "$DESTDIR$3" ;;
    uninstall) remove "$3" ;;
    list) echo "$3" ;;
    esac
}

# configure SOURCE PATH: a file that is the operator's once it is there.
configure() {
    case $action in
    install)
        if [ -e "$DESTDIR$2" ] && ! cmp -s -- "$1" "$DESTDIR$2"; then
            echo "$2 stays as it is; what is new is in $2.new"
            install -D -m 644 -- "$1" "$DESTDIR$2.new"
        else
            put 644 "$1" "$2"
        fi
        ;;
    uninstall)
        remove "$2.new"
        if [ -e "$DESTDIR$2" ] && ! cmp -s -- "$1" "$DESTDIR$2"; then
            echo "$2 has been changed, so it stays"
        else
            remove "$2"
        fi
        ;;
    list) echo "$2" ;;
    esac
}

# remove PATH: a file, and the directories that are empty without it.
remove() {
    if [ -e "$DESTDIR$1" ] || [ -L "$DESTDIR$1" ]; then
        rm -- "$DESTDIR$1"
        (cd -- "$DESTDIR/" && rmdir -p --ignore-fail-on-non-empty -- "$(dirname -- "${1#/}")")
    fi
}

# with_paths SOURCE: the file as it must read under PREFIX.
with_paths() {
    sed -e "s|/usr/bin/gpu|$PREFIX/bin/gpu|g" -e "s|/usr/share/gpusched|$PREFIX/share/gpusched|g" \
        "$1" >"$scratch/${1##*/}"
    echo "$scratch/${1##*/}"
}

# tree MODE SOURCE PATH [FIND'S CONDITIONS...]: the files of a directory.
tree() {
    mode=$1 source=$2 path=$3
    shift 3
    (cd -- "$source" && find . -type f "$@" | sort) >"$scratch/tree"
    while IFS= read -r file; do
        put "$mode" "$source/$file" "$path/${file#./}"
    done <"$scratch/tree"
}

# generated PROGRAM: its manual and completions, which it writes itself. They are removed by their names, since the program
# that wrote them may be gone.
generated() {
    if [ "$action" = uninstall ]; then
        for file in "$DESTDIR$PREFIX/share/man"/man[1-8]/"$1".[1-8] "$DESTDIR$PREFIX/share/man"/man[1-8]/"$1"-*.[1-8] \
            "$DESTDIR$PREFIX/share/man/man5/gpusched.toml.5" \
            "$DESTDIR$PREFIX/share/bash-completion/completions/$1" "$DESTDIR$ZSH_COMPLETIONS/_$1" \
            "$DESTDIR$PREFIX/share/fish/vendor_completions.d/$1.fish"; do
            remove "${file#"$DESTDIR"}"
        done
        return
    fi
    out=$scratch/$1
    mkdir -p "$out/man" "$out/completions"
    if ! "$PROGRAMS/$1" generate --man "$out/man" --completions "$out/completions" >/dev/null 2>&1; then
        echo "$1 writes no manual; without it" >&2
        return
    fi
    for page in "$out"/man/*.[1-8]; do
        if [ -e "$page" ]; then put 644 "$page" "$PREFIX/share/man/man${page##*.}/${page##*/}"; fi
    done
    for file in "$out"/completions/*; do
        name=${file##*/}
        case $name in
        *.bash) put 644 "$file" "$PREFIX/share/bash-completion/completions/${name%.bash}" ;;
        *.fish) put 644 "$file" "$PREFIX/share/fish/vendor_completions.d/$name" ;;
        _*.ps1) ;;
        _*) put 644 "$file" "$ZSH_COMPLETIONS/$name" ;;
        esac
    done
}

# Only where it is what runs.
if [ "$action" = uninstall ] && [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; then
    for unit in gpusched-metrics.socket gpusched.socket gpusched.service; do
        if [ -e "$PREFIX/lib/systemd/system/$unit" ]; then systemctl disable --now "$unit"; fi
    done
fi

for program in gpuschedd gpuctl; do
    [ "$action" = uninstall ] || [ -x "$PROGRAMS/$program" ] ||
        fail "there is no $PROGRAMS/$program; run cargo build --release --workspace --bins, or set PROGRAMS"
    put 755 "$PROGRAMS/$program" "$PREFIX/bin/$program"
    generated "$program"
done

# Where gpuschedd looks for it: it is no program for anybody's PATH.
if [ "$action" = uninstall ] || [ -x "$CUDA_ENGINE" ]; then
    put 755 "$CUDA_ENGINE" "$PREFIX/libexec/gpusched/gpusched-engine-cuda"
fi

put 644 "$(with_paths "$here/gpusched.service")" "$PREFIX/lib/systemd/system/gpusched.service"
put 644 "$here/gpusched.socket" "$PREFIX/lib/systemd/system/gpusched.socket"
put 644 "$here/gpusched-metrics.socket" "$PREFIX/lib/systemd/system/gpusched-metrics.socket"
put 644 "$here/gpusched.sysusers" "$PREFIX/lib/sysusers.d/gpusched.conf"
put 644 "$here/gpusched.catalog" "$PREFIX/lib/systemd/catalog/gpusched.catalog"
configure "$(with_paths "$here/gpusched.toml")" /etc/gpusched/gpusched.toml

tree 644 "$here/monitoring" "$PREFIX/share/gpusched/monitoring"
tree 644 "$top/models/weights" "$PREFIX/share/gpusched/models" ! -name '*.png'
for file in README.md LICENSE-MIT LICENSE-APACHE; do
    put 644 "$top/$file" "$PREFIX/share/doc/gpusched/$file"
done
put 644 "$top/shared/PROTOCOL.md" "$PREFIX/share/doc/gpusched/PROTOCOL.md"
put 644 "$here/cuda.conf" "$PREFIX/share/doc/gpusched/examples/cuda.conf"
tree 644 "$here/container" "$PREFIX/share/doc/gpusched/examples/container"

# The running system, and only where it is what was installed into.
if [ "$action" != list ] && [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; then
    if [ "$action" = install ]; then systemd-sysusers "$PREFIX/lib/sysusers.d/gpusched.conf"; fi
    systemctl daemon-reload
    journalctl --update-catalog
    if [ "$action" = install ]; then
        echo "To start it, now and at every boot: systemctl enable --now gpusched.service"
        echo "To let somebody use it: usermod --append --groups gpusched NAME"
    fi
fi
