# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What is taken from Debian's archive and not installed.

# shellcheck source-path=SCRIPTDIR source=packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

# apt has a state of its own here, below build/apt: it knows suites that the machine
# does not use, installs nothing, and checks every file against the signed index.
# What is unpacked below build/ is trusted from then on, as the scripts beside it
# are.  Indices of source packages are large, and only base_source needs them; what
# is not free is for who asked for it: both have a state of their own again.
APT=$BUILD/apt APT_KIND=deb APT_COMPONENT=main APT_ALONE=

apt_private() {
    local tool=$1 status=0
    shift
    "$tool" -q -o Dir::Etc::SourceList="$APT/sources.list" \
        -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences="$APT/preferences" \
        -o Dir::Etc::PreferencesParts=/dev/null \
        -o Dir::State::Lists="$APT/lists" -o Dir::State::Status="$APT/status" \
        -o Dir::Cache="$APT/cache" -o APT::Sandbox::User= \
        -o APT::Update::Post-Invoke-Success::= -o DPkg::Post-Invoke::= \
        -o Acquire::Retries=3 -o Acquire::Languages=none "$@" || status=$?
    # perhaps the archive has gone on since
    [ $status = 0 ] || rm -f "$APT/complete"
    return $status
}

# apt_mirror KIND: the mirror that this machine already uses for the main archive
# (KIND is empty), or for its security updates ("security"), if there is one.
apt_mirror() {
    local uri suites='bookworm|trixie|forky|sid|stable|testing|unstable'
    # without the indices, which an image of a machine may lack
    uri=$(apt-get update --print-uris |
        sed -n "s|^'\(.*/\)dists/\(.*\)/InRelease'.*|\2 \1|p" | sort -u |
        awk -v security="$1" -v suites="^($suites)(-security)?\$" '
            $1 ~ suites && ($1 ~ /-security$/) == (security != "") {
                print $2
                exit
            }')
    # sid has no security updates
    [ -n "$uri$1" ] || die "apt on this machine knows no archive of Debian, which" \
        "this needs: run it on Debian, or add one to /etc/apt/sources.list.d"
    printf '%s\n' "$uri"
}

# apt_lists: write the private configuration and get the indices, unless those
# of the last 12 hours are there, and of all that is wanted now.
apt_lists() {
    local main security
    [ -z "$(find "$APT/complete" -mmin -720 2>/dev/null)" ] ||
        [ "$(cat "$APT/complete")" != "$(declare -f apt_sources)" ] || return 0
    main=$(apt_mirror '')
    security=$(apt_mirror security)
    need_packages debian-archive-keyring
    step "Debian's package indices" apt_lists_anew
}

apt_lists_anew() {
    rm -rf "$APT"
    mkdir -p "$APT/lists/partial" "$APT/cache/archives/partial"
    : >"$APT/status"
    apt_sources "$main" "$security" | sort -u >"$APT/sources.list"
    printf 'Package: *\nPin: release n=%s\nPin-Priority: %d\n\n' \
        'trixie*' 100 sid 1 >"$APT/preferences"
    apt_private apt-get update --error-on=any
    declare -f apt_sources >"$APT/complete"
}

# apt_sources MAIN SECURITY: the list for these mirrors
apt_sources() {
    local main=$1 security=$2
    local key=/usr/share/keyrings/debian-archive-keyring.gpg
    # Of sid little is taken, and a mirror that is behind has that too.
    cat <<-EOF
	$APT_KIND [signed-by=$key] $main bookworm $APT_COMPONENT
	$APT_KIND [signed-by=$key] $main bookworm-updates $APT_COMPONENT
	$APT_KIND [signed-by=$key] $main bookworm-backports $APT_COMPONENT
	$APT_KIND [signed-by=$key] $main trixie $APT_COMPONENT
	$APT_KIND [signed-by=$key] $main trixie-backports $APT_COMPONENT
	$APT_KIND [signed-by=$key check-valid-until=no] $main sid $APT_COMPONENT
	EOF
    [ -z "$security" ] || cat <<-EOF
	$APT_KIND [signed-by=$key] $security bookworm-security $APT_COMPONENT
	$APT_KIND [signed-by=$key] $security trixie-security $APT_COMPONENT
	EOF
}

# unpack_packages NAME SUITE PACKAGE...: PACKAGEs of SUITE with all that they
# depend on, unpacked (not installed) in build/root/NAME, but for the C library,
# which has to be the one of the running system, unless libc6 is one of the
# PACKAGEs (for a root to chroot into).  NAME/packages lists file names and
# checksums.
unpack_packages() {
    ! unpacked "$@" || return 0
    apt_lists
    step "packages from $2: ${*:3}" unpack_packages_into "$@"
    tell_unpacked "$1"
}

# unpack_alone NAME SUITE PACKAGE...: the same without what they depend on.
unpack_alone() {
    local APT_ALONE=yes
    unpack_packages "$@"
}

# try_packages NAME SUITE PACKAGE...: the same, but where Debian's archive does
# not have them there is no build/root/NAME, and a line that says so.
try_packages() {
    local absent=$BUILD/root/$1.missing title="packages from $2: ${*:3}"
    ! unpacked "$@" || return 0
    # not to be tried again in each test
    [ -z "$(find "$absent" -mmin -720 2>/dev/null)" ] || return 0
    apt_lists
    attempt "$title" unpack_packages_into "$@"
    if [ $STATUS = 0 ]; then
        rm -f "$absent"
        tell_unpacked "$1"
        return
    fi
    # A mirror may list what it has no longer.
    log_has 'was not found|Unable to locate package|404  *Not Found' ||
        fail "$title"
    rm -rf "$BUILD/root/$1"
    touch "$absent"
    say "$1 is skipped: Debian's archive does not have ${*:3}"
}

unpacked() { [ "$(cat "$BUILD/root/$1/wanted" 2>/dev/null)" = "$*" ]; }

tell_unpacked() {
    say "    $(wc -l <"$BUILD/root/$1/packages") packages in build/root/$1," \
        "checksums in build/root/$1/packages"
}

unpack_packages_into() {
    local root=$BUILD/root/$1 suite=$2 wanted="$*" deb debs=()
    shift 2
    rm -rf "$root.new" "$root.debs"
    mkdir -p "$root.new" "$root.debs/partial"
    if [ -z "$APT_ALONE" ]; then
        apt_private apt-get install --yes --download-only \
            --no-install-recommends -o Dir::Cache::Archives="$root.debs" \
            -t "$suite" "$@"
    else
        (cd "$root.debs" && apt_private apt-get download "${@/%//$suite}")
    fi
    for deb in "$root.debs"/*.deb; do
        case " $* : ${deb##*/}" in
        *' libc6 '*) ;;
        *': libc6_'*|*': libgcc-s1_'*) continue ;;
        esac
        debs+=("$deb")
    done
    printf '%s\0' "${debs[@]}" |
        xargs -0 -P "$(nproc)" -I '{}' dpkg-deb -x '{}' "$root.new"
    (cd "$root.debs" && sha256sum -- *.deb) >"$root.new/packages"
    printf '%s\n' "$wanted" >"$root.new/wanted"
    replace "$root.new" "$root"
    rm -rf "$root.debs"
}

# source_versions: of the QEMUs whose source Debian's archive has.
source_versions() {
    apt_private apt-cache showsrc --only-source qemu |
        sed -n 's/^Version: //p' | sort -V
}

# base_source BASE: upstream's source of the newest QEMU BASE (10.0) that
# Debian's archive has.  Leaves the directory in source_dir, or nothing, with a
# line that says so, when there is none.
base_source() {
    local base=$1 version APT=$BUILD/apt-source APT_KIND=deb-src
    source_dir=${BUILD:?}/qemu/base-$base
    [ ! -e "$source_dir/fetched" ] || return 0
    need_packages xz-utils
    apt_lists
    for version in $(source_versions | grep ":${base}[+.]" | tac); do
        attempt "source of QEMU $version" base_source_into "$version" \
            "$source_dir"
        if [ $STATUS = 0 ]; then
            sed 's/^/    /' "$source_dir/fetched"
            return 0
        fi
        # A mirror may list what it has no longer.
        log_has '404  *Not Found' || fail "source of QEMU $version"
    done
    source_dir=
    say "QEMU $base is skipped: Debian's archive does not have its source"
}

# base_source_into VERSION DIR: QEMU as it was released, but for the binaries that
# Debian takes out of the tarball; what the build asks for of those is empty.
base_source_into() {
    local version=$1 dir=$2 new=$2.new file
    rm -rf "$dir" "$new" "$dir.files"
    mkdir -p "$new" "$dir.files"
    cd "$dir.files"
    apt_private apt-get source --download-only --tar-only "qemu=$version"
    tar -xf ./*.orig.tar.xz -C "$new" --strip-components=1
    grep -o 'edk2-[a-z0-9_-]*\.fd' "$new/pc-bios/meson.build" |
        while read -r file; do
            # nothing, compressed by bzip2
            [ -e "$new/pc-bios/$file.bz2" ] ||
                printf 'BZh9\x17\x72\x45\x38\x50\x90\0\0\0\0' \
                    >"$new/pc-bios/$file.bz2"
        done
    for file in "$new"/pc-bios/dtb/*.dts; do
        if [ -e "$file" ] && [ ! -e "${file%.dts}.dtb" ]; then
            : >"${file%.dts}.dtb"
        fi
    done
    sha256sum -- * >"$new/fetched"
    cd "$BUILD"
    mv "$new" "$dir"
    rm -rf "$dir.files"
}
