# shellcheck shell=bash
# Shared by the scripts of this repository: messages, packages, downloads.
# To be sourced, after "set -euo pipefail".  All that is fetched or built
# lands below $BUILD.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$TOP/build
LIBDIR=lib/x86_64-linux-gnu
mkdir -p "$BUILD/log"

say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# step TITLE COMMAND...: run COMMAND with its output in a log below build/log,
# with a sign of life every 20 seconds; on failure show the end of the log and
# exit.
step() {
    local title=$1 pid start=$SECONDS tick=$SECONDS log
    log=$BUILD/log/$(tr -cs 'a-zA-Z0-9.\n' - <<<"$title").log
    shift
    say "$title"
    ("$@") </dev/null >"$log" 2>&1 &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.1
        if [ $((SECONDS - tick)) -ge 20 ]; then
            tick=$SECONDS
            say "    ... $((SECONDS - start)) s"
        fi
    done
    if ! wait "$pid"; then
        tail -n 25 "$log" >&2
        die "failed: $title (the whole log is $log)"
    fi
}

# lock_build: let only one script at a time work below build/.  Scripts called
# by the one that holds the lock share it.
lock_build() {
    [ -z "${VFIO_OPTIMUS_LOCKED:-}" ] || return 0
    exec 9>"$BUILD/lock"
    if ! flock --nonblock 9; then
        say "waiting: another script works in $BUILD"
        flock 9
    fi
    export VFIO_OPTIMUS_LOCKED=1
}

# need_packages PACKAGE...: install the Debian packages that are missing.
need_packages() {
    local missing=() package sudo=()
    command -v dpkg-query >/dev/null || die "this needs Debian or a relative" \
        "of it (no dpkg here): install the equivalents of: $*"
    for package; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null |
            grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        sudo=(sudo)
        say "installing with sudo: ${missing[*]}"
    fi
    step "package lists" "${sudo[@]}" apt-get update
    step "installing ${missing[*]}" "${sudo[@]}" env \
        DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "${missing[@]}"
}

# What compiles the plugin, and configures QEMU's source for it.
need_build_packages() {
    need_packages binutils dpkg-dev gcc libc6-dev libfdt-dev libglib2.0-dev \
        libpixman-1-dev ninja-build pkg-config python3 python3-venv xz-utils
}

# Debian's archive with a state of our own below build/apt: suites that the
# machine does not use, nothing installed, every file checked by apt against
# the signed index.
APT=$BUILD/apt

apt_private() {
    local tool=$1
    shift
    "$tool" -q -o Dir::Etc::SourceList="$APT/sources.list" \
        -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences="$APT/preferences" \
        -o Dir::Etc::PreferencesParts=/dev/null \
        -o Dir::State::Lists="$APT/lists" -o Dir::State::Status="$APT/status" \
        -o Dir::Cache="$APT/cache" -o APT::Sandbox::User= \
        -o APT::Update::Post-Invoke-Success::= -o DPkg::Post-Invoke::= \
        -o Acquire::Retries=3 -o Acquire::Languages=none "$@"
}

# The mirror that this machine already uses for Debian's main archive (or for
# its security updates, with "security").
apt_mirror() {
    local uri
    uri=$(apt-get indextargets --format "\$(RELEASE) \$(REPO_URI)" \
            'Created-By: Packages' | sort -u |
        awk -v security="${1:-}" '
            $1 ~ /^(bookworm|trixie|forky|sid|stable|testing|unstable)(-security)?$/ &&
            ($1 ~ /-security$/) == (security != "") { print $2; exit }')
    [ -n "$uri" ] || die "apt on this machine knows no${1:+ $1} archive of" \
        "Debian: add one to /etc/apt/sources.list.d"
    printf '%s\n' "$uri"
}

# apt_lists: write the private configuration and get the indices, unless those
# of the last 12 hours are there.
apt_lists() {
    local key=/usr/share/keyrings/debian-archive-keyring.gpg main security kind
    [ -z "$(find "$APT/complete" -mmin -720 2>/dev/null)" ] || return 0
    [ -r $key ] || need_packages debian-archive-keyring
    main=$(apt_mirror)
    security=$(apt_mirror security)
    rm -rf "$APT"
    mkdir -p "$APT/lists/partial" "$APT/cache/archives/partial"
    : >"$APT/status"
    # Of sid only sources are taken, and a mirror that is behind has them too.
    for kind in deb deb-src; do
        cat <<-EOF
		$kind [signed-by=$key] $main bookworm main
		$kind [signed-by=$key] $main bookworm-updates main
		$kind [signed-by=$key] $main bookworm-backports main
		$kind [signed-by=$key] $main trixie main
		$kind [signed-by=$key] $security bookworm-security main
		$kind [signed-by=$key] $security trixie-security main
		deb-src [signed-by=$key check-valid-until=no] $main sid main
		EOF
    done | sort -u >"$APT/sources.list"
    printf 'Package: *\nPin: release n=trixie*\nPin-Priority: 100\n' \
        >"$APT/preferences"
    step "Debian's package indices" apt_private apt-get update --error-on=any
    touch "$APT/complete"
}

# unpack_packages NAME SUITE PACKAGE...: PACKAGEs of SUITE with all that they
# depend on, unpacked (not installed) in build/root/NAME, but for the C library,
# which has to be the one of the running system.  NAME/packages lists file
# names and checksums.
unpack_packages() {
    local name=$1 suite=$2 root=$BUILD/root/$1 wanted="$*"
    shift 2
    [ "$(cat "$root/wanted" 2>/dev/null)" != "$wanted" ] || return 0
    apt_lists
    step "packages from $suite: $*" unpack_packages_into "$root" "$suite" "$@"
    printf '%s\n' "$wanted" >"$root/wanted"
    say "    $(wc -l <"$root/packages") packages in build/root/$name," \
        "checksums in build/root/$name/packages"
}

unpack_packages_into() {
    local root=$1 suite=$2 deb
    shift 2
    rm -rf "$root" "$root.new" "$root.debs"
    mkdir -p "$root.new" "$root.debs/partial"
    apt_private apt-get install --yes --download-only --no-install-recommends \
        -o Dir::Cache::Archives="$root.debs" -t "$suite" "$@"
    for deb in "$root.debs"/*.deb; do
        case ${deb##*/} in
        libc6_*|libgcc-s1_*) ;;
        *) dpkg-deb -x "$deb" "$root.new" ;;
        esac
    done
    (cd "$root.debs" && sha256sum -- *.deb) >"$root.new/packages"
    mv "$root.new" "$root"
    rm -rf "$root.debs"
}

# unpack_tools: iasl, acpiexec, UEFIExtract and qemu-img, for the tests.
unpack_tools() {
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

# build_plugin_for NAME: the plugin for the emulator in build/root/NAME; prints
# its directory.
build_plugin_for() {
    local root=$BUILD/root/$1
    QEMU_LIBRARY_PATH=$(root_libraries "$root") \
        "$TOP/scripts/build-plugin" "$root/usr/bin/qemu-system-x86_64" |
        sed -n -e 'w /dev/stderr' -e 's|.* ready: \(.*\)/qemu-optimus$|\1|p'
}

# built_tree: QEMU from source with the patch series; prints the directory of
# its qemu-system-x86_64.
built_tree() {
    "$TOP/scripts/build-tree" | sed -n -e 'w /dev/stderr' \
        -e 's|.* ready: \(.*\)/qemu-system-x86_64$|\1|p'
}

# need_meson: unpack the meson that is new enough for every QEMU, and a printer
# of test results.  Sets MESON.
need_meson() {
    local root=$BUILD/root/meson
    export PYTHONPATH=$root/usr/lib/python3/dist-packages
    export PYTHONDONTWRITEBYTECODE=1
    export MESON=$root/usr/bin/meson
    [ ! -e "$root/packages" ] || return 0
    apt_lists
    step "meson" unpack_alone "$root" meson/bookworm-backports python3-pycotap/trixie
}

# meson_setup DIR OPTION...: configure the repository in DIR, unless that was
# done with the same options and compiler.
meson_setup() {
    local dir=$1 settings="${CC:-cc} $*"
    shift
    [ "$(cat "$dir/settings" 2>/dev/null)" != "$settings" ] || return 0
    rm -rf "$dir"
    "$MESON" setup "$dir" "$TOP" "$@"
    printf '%s\n' "$settings" >"$dir/settings"
}

# unpack_alone ROOT PACKAGE/SUITE...: without what they depend on.
unpack_alone() {
    local root=$1 deb
    shift
    rm -rf "$root" "$root.new"
    mkdir -p "$root.new"
    cd "$root.new" || return
    apt_private apt-get download "$@"
    for deb in *.deb; do
        dpkg-deb -x "$deb" .
    done
    sha256sum -- *.deb >packages
    rm -- *.deb
    mv "$root.new" "$root"
}

# fetch_source VERSION: Debian's source package of QEMU, below build/qemu.
# Leaves the directory in source_dir.
fetch_source() {
    local package=${1%+b[0-9]*}     # a rebuild has the source of what it rebuilds
    source_dir=${BUILD:?}/qemu/${package#*:}
    [ ! -e "$source_dir/fetched" ] || return 0
    apt_lists
    step "source of QEMU $package" fetch_source_into "$package" "$source_dir"
    sed 's/^/    /' "$source_dir/fetched"
}

fetch_source_into() {
    local package=$1 dir=$2
    rm -rf "$dir" "$dir.new" "$dir.files"
    mkdir -p "$dir.files"
    cd "$dir.files" || return
    if apt_private apt-get source --download-only "qemu=$package"; then
        dpkg-source --no-check -x ./*.dsc "$dir.new"
    else
        # Debian's archive keeps no old revisions, but the upstream tarball as
        # long as a newer revision needs it.  Debian's patches change no header.
        rm -rf ./*
        unpack_upstream "$package" "$dir.new"
    fi
    sha256sum -- * >"$dir.new/fetched"
    cd "$BUILD" || return
    mv "$dir.new" "$dir"
    rm -rf "$dir.files"
}

# unpack_upstream VERSION DIR: QEMU as it was released, but for the binaries that
# Debian takes out of the tarball; what the build asks for of those is empty.
unpack_upstream() {
    local package=$1 dir=$2 file
    apt_private apt-get source --download-only --tar-only "qemu=$package" &&
        mkdir "$dir" &&
        tar -xf ./*.orig.tar.xz -C "$dir" --strip-components=1 || return
    grep -o 'edk2-[a-z0-9_-]*\.fd' "$dir/pc-bios/meson.build" |
        while read -r file; do
            # nothing, compressed by bzip2
            [ -e "$dir/pc-bios/$file.bz2" ] ||
                printf 'BZh9\x17\x72\x45\x38\x50\x90\0\0\0\0' \
                    >"$dir/pc-bios/$file.bz2"
        done
    for file in "$dir"/pc-bios/dtb/*.dts; do
        if [ -e "$file" ] && [ ! -e "${file%.dts}.dtb" ]; then
            : >"${file%.dts}.dtb"
        fi
    done
}

# base_source BASE: upstream's source of the newest QEMU BASE (10.0) that
# Debian's archive has.  Leaves the directory in source_dir; fails, with a line
# that says so, when there is none.
base_source() {
    local base=$1 version
    source_dir=${BUILD:?}/qemu/base-$base
    [ ! -e "$source_dir/fetched" ] || return 0
    apt_lists
    for version in $(apt_private apt-cache showsrc --only-source qemu |
            sed -n "s/^Version: \(.*:$base\.[0-9.]*+.*\)/\1/p" | sort -rV); do
        if (step "source of QEMU $version" base_source_into "$version" \
                "$source_dir"); then
            sed 's/^/    /' "$source_dir/fetched"
            return 0
        fi
    done
    say "QEMU $base is skipped: Debian's archive does not have its source"
    return 1
}

base_source_into() {
    local package=$1 dir=$2
    rm -rf "$dir" "$dir.new" "$dir.files"
    mkdir -p "$dir.files"
    cd "$dir.files" || return
    unpack_upstream "$package" "$dir.new" || return
    sha256sum -- * >"$dir.new/fetched" || return
    cd "$BUILD" || return
    mv "$dir.new" "$dir"
    rm -rf "$dir.files"
}
