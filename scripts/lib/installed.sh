# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What install and uninstall share: the package, and where there is none, the list
# of what was installed: a line for each file and directory (with a slash) that was
# made, by its path in the prefix.

# shellcheck source-path=SCRIPTDIR source=builds.sh
. "$(dirname "${BASH_SOURCE[0]}")/builds.sh"

# has_apt: whether this is Debian, or a relative of it
has_apt() { command -v dpkg-query apt-get >/dev/null; }

# set_prefix DIR: sets prefix, list, and listed, its lines
set_prefix() {
    [ -n "$1" ] || die "--prefix needs the name of a directory"
    prefix=$(realpath -m -- "$1")
    [ "$prefix" != / ] || die "--prefix / is not a place for programs: take /usr"
    list=$prefix/share/vfio-optimus/installed
    listed=()
    [ ! -e "$list" ] || mapfile -t listed <"$list"
    for path in "${listed[@]}"; do
        case /$path/ in
        //* | */../*) die "$list names what is not in $prefix: $path: remove" \
            "by hand what scripts/install put there" ;;
        esac
    done
}

# need_writable: is the prefix, or what is there of it?
need_writable() {
    local dir=$prefix/share
    while [ ! -e "$dir" ]; do
        dir=$(dirname "$dir")
    done
    [ -d "$dir" ] || die "$dir is not a directory: choose another --prefix"
    [ ! -w "$dir" ] || return 0
    die "you may not write in $dir: use sudo, or choose another place with --prefix"
}

# remove_listed: files first, what they are in after them, and the list last, so
# that it can be done again after a crash
remove_listed() {
    local path
    for path in "${listed[@]}"; do
        [[ $path = */ ]] || rm -f -- "$prefix/$path"
    done
    rm -f -- "$list"
    for path in "${listed[@]}" ''; do
        [[ $path = *[!/] ]] || rmdir -- "$prefix/$path" 2>/dev/null || true
    done
}

# build_copy DIR PREFIX: in DIR/copy, all that is to be below PREFIX
build_copy() {
    meson_setup "$1/meson" --prefix="$2" -Dtests=false
    rm -rf "$1/copy"
    meson compile -C "$1/meson"
    DESTDIR=$1/copy meson install -C "$1/meson" --no-rebuild
}
