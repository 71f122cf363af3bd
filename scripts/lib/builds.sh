# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What is built, and what runs the programs that are unpacked.

# shellcheck source-path=SCRIPTDIR source=archive.sh
. "$(dirname "${BASH_SOURCE[0]}")/archive.sh"

# shellcheck disable=SC2034 # for the scripts that source this
PLUGIN=$BUILD/plugin
LIBDIR=lib/x86_64-linux-gnu

# unpack_tools: iasl, acpiexec, UEFIExtract, qemu-img and the list of PCI IDs, for
# the tests.
unpack_tools() {
    unpack_packages pci-ids trixie pci.ids
    unpack_packages vbios-tools bookworm uefitool-cli acpica-tools qemu-utils
}

# root_libraries ROOT: where the programs unpacked there have their libraries.
root_libraries() { printf '%s\n' "$1/usr/$LIBDIR:$1/$LIBDIR"; }

# in_root ROOT COMMAND...: run an unpacked program.
in_root() {
    local root=$1
    shift
    LD_LIBRARY_PATH=$(root_libraries "$root") "$@"
}

# root_linker ROOT: the dynamic linker that runs the programs unpacked there:
# the C library of their own, if they have one, goes with no other.
root_linker() {
    local own=$1/usr/lib64/ld-linux-x86-64.so.2
    [ -e "$own" ] || own=/lib64/ld-linux-x86-64.so.2
    printf '%s\n' "$own"
}

# qemu_linker ROOT: the dynamic linker that runs the QEMU unpacked there.  It is a
# copy, because what it runs takes its place for its own: beside "qemu-bundle",
# QEMU has its modules from ROOT, and never those of the host's QEMU, which would
# end it.
qemu_linker() {
    local linker bin=$1/usr/bin
    linker=$(root_linker "$1")
    [ -e "$bin/qemu-bundle" ] || ln -s ../.. "$bin/qemu-bundle"
    cmp -s "$linker" "$bin/ld.so" || {
        cp -L "$linker" "$bin/ld.so.new"
        mv "$bin/ld.so.new" "$bin/ld.so"
    }
    printf '%s\n' "$bin/ld.so"
}

# emulator NAME: makes and prints build/emulator/NAME, where tests have the QEMU
# that is unpacked in build/root/NAME, if it is: qemu-system-x86_64, a script that
# runs it with its own libraries and firmware.
emulator() {
    local root=$BUILD/root/$1 dir=$BUILD/emulator/$1 script
    printf '%s\n' "$dir"
    [ -e "$root" ] || return 0
    script="#!/bin/sh
program='$root/usr/bin/qemu-system-x86_64'
libraries='$(root_libraries "$root")'
exec '$(qemu_linker "$root")' --library-path \"\$libraries\" \"\$program\" \\
    -L '$root/usr/share/seabios' -L '$root/usr/share/qemu' \"\$@\""
    [ "$(cat "$dir/qemu-system-x86_64" 2>/dev/null)" != "$script" ] || return 0
    rm -rf "$dir"
    mkdir -p "$dir"
    write_program "$dir/qemu-system-x86_64" "$script"
}

# built_tree: QEMU from source with the patch series; prints the directory of
# its qemu-system-x86_64.
built_tree() {
    tied "$TOP/scripts/build-tree" | sed -n -e 'w /dev/stderr' \
        -e 's|.* ready: \(.*\)/qemu-system-x86_64$|\1|p'
}

# need_python NAME SUITE PACKAGE: Python's modules of a package, unpacked, come first
need_python() {
    export PYTHONPATH=$BUILD/root/$1/usr/lib/python3/dist-packages${PYTHONPATH:+:$PYTHONPATH}
    unpack_alone "$@"
}

# need_meson: the meson that is new enough for every QEMU.  Sets MESON.
need_meson() {
    export MESON=$BUILD/root/meson/usr/bin/meson
    need_python meson bookworm-backports meson
}

# meson_setup DIR OPTION...: configure the repository in DIR, unless that was
# done with the same options, compiler and meson, and no library or iasl has come
# since.
meson_setup() {
    local dir=$1 settings
    settings="${CC:-cc} $(meson --version) $*"
    ! pkg-config --exists zlib || settings+=" zlib"
    ! command -v iasl >/dev/null || settings+=" iasl"
    ! pkg-config --exists libxml-2.0 || settings+=" libxml2"
    shift
    [ "$(cat "$dir/settings" 2>/dev/null)" != "$settings" ] || return 0
    rm -rf "$dir"
    meson setup "$dir" "$TOP" "$@"
    printf '%s\n' "$settings" >"$dir/settings"
}
