# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Trees of QEMU with the patch series, in build/tree-VERSION.

# shellcheck source-path=SCRIPTDIR source=builds.sh
. "$(dirname "${BASH_SOURCE[0]}")/builds.sh"

# shellcheck disable=SC2034 # for the scripts that source this
TREE_PACKAGES=(bzip2 ccache dpkg-dev gcc git libc6-dev libfdt-dev libglib2.0-dev
    libpixman-1-dev make ninja-build patch pkg-config python3 python3-venv
    xz-utils)

# A new symbol of Kconfig compiles everything anew, and so does each commit or
# configuration that is built for comparison.  The headers that the compiler names
# are what ccache goes by: preprocessing all first would take half as long again.
export CCACHE_DIR=$BUILD/ccache CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1

# No more than the tests need of devices: all of QEMU's take minutes more.
TREE_DEVICES=(BOCHS_DISPLAY CXL CXL_MEM_DEVICE I440FX IOMMUFD MICROVM PCIE_PORT PXB
    Q35 SEV UEFI_VARS VFIO_PCI VTD)

# Git with the repository of the tree, which is not in the source directory: no
# script of QEMU is to take it for its own.
tree_git() {
    git --git-dir="$TREE/git" --work-tree="$TREE/source" \
        -c user.name=build -c user.email=build@localhost \
        -c commit.gpgSign=false -c core.hooksPath=/dev/null \
        -c advice.detachedHead=false "$@"
}

TREE_SOURCE=''

# tree_options [--help] [--source DIR] ARGUMENT...: sets TREE_SOURCE and
# TREE_ARGUMENTS; the caller has a usage().
tree_options() {
    TREE_ARGUMENTS=()
    while [ $# -gt 0 ]; do
        case $1 in
        --source)
            [ -e "${2:-}/VERSION" ] || die "--source needs the directory of a" \
                "QEMU source, which has a file VERSION: '${2:-}' has none"
            TREE_SOURCE=$(cd "$2" && pwd)
            shift
            ;;
        -*) answer "$1" ;;
        *) TREE_ARGUMENTS+=("$1") ;;
        esac
        shift
    done
}

# tree_source: leaves the directory of QEMU's source in source_dir, or nothing,
# with a line that says so, when there is none.
tree_source() {
    if [ -n "$TREE_SOURCE" ]; then
        source_dir=$TREE_SOURCE
    else
        base_source 10.2
    fi
}

# tree_prepare: the source with the series applied.  Sets TREE.  Touches no file
# that is already as it should be.
tree_prepare() {
    tree_source
    [ -n "$source_dir" ] || exit 3
    TREE=$BUILD/tree-$(cat "$source_dir/VERSION")
    mkdir -p "$TREE"
    rm -rf "$TREE/series.new"
    # not to be sent, so that it needs no author, and no word on sending
    GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=build \
        GIT_CONFIG_KEY_1=user.email GIT_CONFIG_VALUE_1=build@localhost \
        tied "$TOP/scripts/mkseries" --source "$source_dir" "$TREE/series.new" |
        sed '/^$/,$d'
    rm -rf "$TREE/series"
    mv "$TREE/series.new" "$TREE/series"
    [ -d "$TREE/git" ] ||
        step "repository of QEMU ${TREE##*-}" tree_import
    step "git am of the series for QEMU ${TREE##*-}" tree_am
}

tree_import() {
    rm -rf "$TREE/git.new" "$TREE/source" "$TREE/build"
    git init -q --bare "$TREE/git.new"
    git -C "$TREE/git.new" config core.bare false
    printf '/roms/\n/fetched\n' >"$TREE/git.new/info/exclude"
    import() { git --git-dir="$TREE/git.new" --work-tree="$source_dir" \
        -c user.name=build -c user.email=build@localhost \
        -c commit.gpgSign=false -c core.hooksPath=/dev/null "$@"; }
    import add --all --force -- ':!roms' ':!fetched'
    import commit -q -m "QEMU $(cat "$source_dir/VERSION")"
    import tag base
    rm "$TREE/git.new/index"
    mkdir "$TREE/source"
    mv "$TREE/git.new" "$TREE/git"
}

# Apply the patches in a work tree of their own, then check the result out: what
# did not change keeps its time.
tree_am() {
    rm -rf "$TREE/am" "$TREE/git/index.lock"
    tree_git worktree prune
    git --git-dir="$TREE/git" worktree add -q --detach "$TREE/am" base
    (cd "$TREE/am" && git -c user.name=build -c user.email=build@localhost \
        -c commit.gpgSign=false -c core.hooksPath=/dev/null am \
        --committer-date-is-author-date "$TREE"/series/000[1-9]-*.patch)
    tree_git tag -f series "$(git -C "$TREE/am" rev-parse HEAD)"
    git --git-dir="$TREE/git" worktree remove --force "$TREE/am"
    tree_checkout series
}

tree_checkout() { (cd "$TREE/source" && tree_git checkout -q -f --detach "$1"); }

# tree_python: meson, and what QEMU's configure and its tests in Python want, too.
tree_python() {
    export PYTHONDONTWRITEBYTECODE=1
    need_python pycotap trixie python3-pycotap
    need_meson
}

# tree_unpack: what the tree is built with, and firmware of Debian: the SeaBIOS that
# the expected ACPI tables of the tests were made with, for the one address in them
# that depends on it.
tree_unpack() {
    tree_python
    unpack_alone firmware trixie seabios ipxe-qemu qemu-system-data
}

# tree_configure DIR OPTION...: configure the tree in DIR, if that was not done.
tree_configure() {
    local dir=$1
    shift
    tree_unpack
    [ "$(cat "$dir/configured" 2>/dev/null)" = "options: $*" ] ||
        step "configure ${dir#"$BUILD/"}" tree_configure_into "$dir" "$@"
}

tree_configure_into() {
    local dir=$1 data=$1/qemu-bundle/usr/local/share/qemu file
    shift
    rm -rf "$dir"
    mkdir -p "$dir"
    cd "$dir" || return
    CC="ccache gcc" PATH=/usr/bin:$PATH "$TREE/source/configure" --python=/usr/bin/python3 \
        --target-list=x86_64-softmmu --enable-werror \
        --without-default-features --enable-kvm --enable-fdt=system \
        --disable-docs --disable-download --disable-install-blobs "$@"
    # where a QEMU that is not installed looks for its firmware
    mkdir -p "$data"
    for file in "$BUILD"/root/firmware/usr/share/{qemu,seabios}/*.{bin,rom}; do
        [ ! -f "$file" ] || ln -sf "$file" "$data/"
    done
    [ -e "$data/bios-256k.bin" ] && [ -e "$data/efi-e1000e.rom" ] || return
    printf 'options: %s\n' "$*" >configured
}

# tree_build: the emulator with all that it has for PCs, in $TREE/build
tree_build() {
    tree_configure "$TREE/build" --enable-tcg --enable-pixman
    step "QEMU ${TREE##*-} with the series" \
        ninja -C "$TREE/build" qemu-system-x86_64
}

# tree_build_small: the emulator for tests, in $TREE/small: with KVM only and not
# optimized, which takes a third of the time
tree_build_small() {
    local devices=("${TREE_DEVICES[@]}") source=$TREE/source file config
    file=$source/configs/devices/x86_64-softmmu/vfio-optimus.mak
    [ ! -e "$source/hw/vfio/optimus.c" ] || devices+=(VFIO_OPTIMUS)
    config=$(printf 'CONFIG_%s=y\n' "${devices[@]}")
    # a new file would have all configured anew
    [ "$(cat "$file" 2>/dev/null)" = "$config" ] || printf '%s\n' "$config" >"$file"
    tree_configure "$TREE/small" --without-default-devices \
        --with-devices-x86_64=vfio-optimus --disable-debug-info -Doptimization=0
    step "QEMU ${TREE##*-} with the series, for tests" \
        ninja -C "$TREE/small" qemu-system-x86_64
}
