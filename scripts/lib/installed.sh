# shellcheck shell=bash
# What is installed, and the record of what was.  To be sourced
# by install, uninstall and build-deb.
#
# The record is PREFIX/share/vfio-optimus/manifest: a line for each file, link
# and directory that scripts/install made, with its fingerprint.  While files
# are being replaced, "journal" beside it has the old lines and the new ones, so
# that after a crash, too, it is known what is whose.

# shellcheck source-path=SCRIPTDIR source=builds.sh
. "$(dirname "${BASH_SOURCE[0]}")/builds.sh"

# shellcheck disable=SC2034 # a suffix, for those who source this
NEW=.vfio-optimus-new

# set_prefix DIR: sets prefix, manifest, journal and records (what is recorded)
set_prefix() {
    [ -n "$1" ] || die "--prefix needs the name of a directory"
    prefix=$(realpath -m -- "$1")
    case $prefix in
    /) die "--prefix / is not a place for programs: /usr/local is the default" ;;
    *[[:space:]:]*) die "$prefix has a blank or a colon in its name, at which" \
        "LD_PRELOAD would split it: choose another --prefix" ;;
    esac
    manifest=$prefix/share/vfio-optimus/manifest
    journal=$prefix/share/vfio-optimus/journal
    records=$(cat "$manifest" "$journal" 2>/dev/null || true)
}

fingerprint() {
    if [ -L "$1" ]; then
        printf 'link:%s\n' "$(readlink "$1")"
    elif [ -d "$1" ]; then
        echo directory
    else
        sha256sum <"$1" | cut -d' ' -f1
    fi
}

exists() { [ -e "$1" ] || [ -L "$1" ]; }

# ours PATH: it is as scripts/install made it
ours() { exists "$1" && grep -qxF "$(fingerprint "$1") $1" <<<"$records"; }

# recorded_paths: all paths of the record, what is in a directory before it
recorded_paths() {
    sed -n 's/^[^# ][^ ]* //p' <<<"$records" | LC_ALL=C sort -ru
}

# need_writable DIR: so is it, or what is there of it
need_writable() {
    local dir=$1
    while ! exists "$dir"; do
        dir=$(dirname "$dir")
    done
    [ -d "$dir" ] || die "$dir is not a directory: move it away, or choose" \
        "another place with --prefix"
    [ ! -w "$dir" ] || return 0
    [ "$(id -u)" = 0 ] || die "you may not write in $dir: use sudo, or" \
        "choose another place with --prefix"
    die "nobody may write in $dir: choose another place with --prefix"
}

# confirm QUESTION
confirm() {
    local answer=''
    [ -z "$yes" ] || return 0
    read -r -p "$1 [y/N] " answer || true
    case $answer in
    [yY] | [yY][eE][sS]) ;;
    '') die "nothing was changed; --yes does it without a question" ;;
    *) die "nothing was changed" ;;
    esac
}

# stage_files TREE PREFIX QEMU: all that is to be below PREFIX, in TREE; QEMU is
# what qemu-optimus is to run.  After build-plugin.
stage_files() {
    local tree=$1 prefix=$2 qemu=$3 lib=$1/lib/vfio-optimus
    rm -rf "$tree"
    meson compile -C "$PLUGIN/meson" optimus-vbios
    meson install -C "$PLUGIN/meson" --no-rebuild --destdir "$tree"
    write_wrapper "$lib/qemu-optimus" \
        "$prefix/lib/vfio-optimus/vfio-optimus-preload.so" "$qemu"
    # which not every machine can make, see build-plugin
    [ ! -e "$PLUGIN/battery.aml" ] || install -m 644 "$PLUGIN/battery.aml" "$lib"
    ln -s ../lib/vfio-optimus/qemu-optimus "$tree/bin/qemu-optimus"
    install -D -m 755 -t "$tree/share/vfio-optimus" \
        "$TOP"/hw-optimus/{doctor/doctor,guest/guest-check}
    install -D -m 644 -t "$tree/share/vfio-optimus/optimus_doctor" \
        "$TOP"/hw-optimus/doctor/optimus_doctor/*.py
    # "doctor" alone says too little among all other programs
    ln -s ../share/vfio-optimus/doctor "$tree/bin/optimus-doctor"
    install -m 644 -t "$tree/share/vfio-optimus" "$TOP"/hw-optimus/libvirt/*
}
