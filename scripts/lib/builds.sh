# shellcheck shell=bash
# Shared by the scripts of this repository: messages, packages, downloads.
# To be sourced, after "set -euo pipefail".  All that is fetched or built
# lands below $BUILD.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=$TOP/build
# shellcheck disable=SC2034 # for the scripts that source this
PLUGIN=$BUILD/plugin
LIBDIR=lib/x86_64-linux-gnu
# Without this, bash goes on after a ^C if the program that it waits for has
# ended by itself just then.
trap 'exit 130' INT

say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# make_build: see that build/ is there and can be written.
make_build() {
    local error file
    error=$(mkdir -p "$BUILD/log" 2>&1) || die "$BUILD is where all is built," \
        "and it cannot be made: ${error##*: }: make room, or move the" \
        "repository to where you may write"
    for file in "$BUILD" "$BUILD/log" "$BUILD/lock"; do
        [ ! -e "$file" ] || [ -w "$file" ] || die "$file cannot be written: it" \
            "belongs to $(stat -c %U "$file"): run this as that user, or" \
            "remove $BUILD"
    done
}

# tied COMMAND...: run COMMAND, which ends when this script does, however that
# ends.  Not to be called in a condition, where bash would have a function go on
# after errors.
tied() {
    start_tied "$@"
    wait_tied
    return $STATUS
}

# Two process groups: COMMAND's, and a guard's, which keeps no file open.  A
# script that is dead but not yet waited for has a /proc directory, and no exe.
start_tied() {
    set -m
    (set +m -e; "$@") </dev/null &
    TIED=$!
    # shellcheck disable=SC2016 # not variables of this shell
    bash -c 'while [ -e "/proc/$1/exe" ]; do sleep 0.5; done
        kill -- "-$2"; sleep 5; kill -KILL -- "-$2"' guard $$ "$TIED" \
        </dev/null >/dev/null 2>&1 9>&- &
    GUARD=$!
    disown
    set +m
}

# Sets STATUS.
wait_tied() {
    STATUS=0
    wait "$TIED" 2>/dev/null || STATUS=$?
    kill -- -"$GUARD" 2>/dev/null || true
}

# attempt TITLE COMMAND...: run COMMAND, tied to this script, with its output in
# a log below build/log and a sign of life every 20 seconds.  Sets STATUS and LOG.
# Returns 0 all the same, so that no condition is needed.
attempt() {
    local title=$1 start=$SECONDS tick=$SECONDS
    shift
    make_build
    LOG=$BUILD/log/$(tr -cs 'a-zA-Z0-9.\n' - <<<"${title:0:100}").log
    rm -f "$LOG"
    start_tied "$@" >"$LOG" 2>&1
    while kill -0 "$TIED" 2>/dev/null; do
        sleep 0.1
        if [ $((SECONDS - tick)) -ge 20 ]; then
            tick=$SECONDS
            say "    ... $title: $((SECONDS - start)) s"
        fi
    done
    wait_tied
}

# step TITLE COMMAND...: the same, but exit on failure.
step() {
    say "$1"
    attempt "$@"
    [ $STATUS = 0 ] || fail "$1"
}

# fail TITLE: exit with the end of what the last attempt said, and with what to
# do about it, if that is known.
fail() {
    local advice
    advice=$(advise)
    # grep ends the last line, which is cut off where the disk is full
    tail -n 25 "$LOG" | grep -a '' >&2 || true
    die "failed: $1${advice:+: $advice} (the whole log is $LOG)"
}

advise() {
    if [ "$(df --output=avail "$BUILD" | tail -n 1)" -lt 64 ]; then
        echo "the disk with $BUILD is full: make room, then run this again"
    elif log_has 'No space left|not have enough free space|quota exceeded'; then
        echo "a disk is full: make room, then run this again"
    # apt's warning, that not even its own user may read this, is no fault
    elif log_has '^[^W].*Permission denied'; then
        echo "not all of $BUILD is yours: remove it, then run this again"
    elif log_has 'Hash Sum mismatch|unexpected size|file isn.t valid' ||
        log_has 'not signed|invalid signature|signatures (were|couldn)'; then
        echo "the mirror sent what Debian did not sign, and it was not used:" \
            "run this again later, or name another mirror in /etc/apt"
    elif log_has '404  *Not Found' && ! log_has 'not have a Release file'; then
        echo "the mirror does not have what its index says: run this again," \
            "which gets the index anew, or name another mirror in /etc/apt"
    elif log_has 'Could not get lock|is another process using it'; then
        echo "another program installs packages: wait for it, then run this again"
    elif log_has 'dpkg was interrupted'; then
        echo "run dpkg --configure -a as root, then this again"
    elif log_has '^[EW]: (Failed|Unable) to fetch|not have a Release file'; then
        echo "Debian's archive was not reached: see to the network, or to the" \
            "mirror in /etc/apt, then run this again"
    elif log_has 'Unable to locate package'; then
        echo "the mirrors in /etc/apt do not have it: this needs Debian 12"
    fi
}

log_has() { grep -a -q -s -E -e "$1" "$LOG"; }

# lock_build: let only one script at a time work below build/.  Scripts called
# by the one that holds the lock share it.
lock_build() {
    local start=$SECONDS status
    [ -z "${VFIO_OPTIMUS_LOCKED:-}" ] || return 0
    make_build
    exec 9>>"$BUILD/lock" || die "$BUILD/lock cannot be opened"
    if ! flock --nonblock 9; then
        say "waiting: another script works in $BUILD ($(cat "$BUILD/lock"))"
        until flock --wait 20 9; do
            status=$?
            [ $status = 1 ] || die "$BUILD/lock cannot be locked: move the" \
                "repository to a local disk"
            say "    ... waiting: $((SECONDS - start)) s"
        done
    fi
    printf '%s, process %d\n' "${0##*/}" $$ >"$BUILD/lock" || true
    export VFIO_OPTIMUS_LOCKED=1
    # what a run that was killed has left
    rm -rf "$BUILD"/{root,qemu}/*.{new,old,debs,files} 2>/dev/null || true
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
    lock_build
    if [ "$(id -u)" != 0 ]; then
        say "installing with sudo: ${missing[*]}"
        # Here it can ask for a password, and in a step it cannot.
        sudo --validate || die "not installed: ${missing[*]}: install them as" \
            "root, then run this again"
        sudo=(sudo --non-interactive)
    fi
    step "installing ${missing[*]}" install_packages "${missing[@]}"
}

# Another mirror of the machine's may be out of reach: so what.
install_packages() {
    system_apt update || true
    system_apt install -y --no-install-recommends "$@"
}

# What the system's dpkg has begun it is to end, also without the script, whose
# lock is not the business of a service that is started on the way.
system_apt() {
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive setsid --wait \
        apt-get -o DPkg::Lock::Timeout=600 "$@" 9>&-
}

# What compiles the plugin
need_build_packages() {
    if command -v dpkg-query >/dev/null; then
        need_packages gcc libc6-dev libglib2.0-dev meson ninja-build pkg-config
    else
        need_build_tools glib-2.0
    fi
}

# What compiles optimus-vbios, too
need_vbios_packages() {
    if command -v dpkg-query >/dev/null; then
        need_build_packages
        need_packages zlib1g-dev
    else
        need_build_tools glib-2.0 zlib
    fi
}

# need_build_tools LIBRARY...: the same where packages have other names and are
# installed otherwise
need_build_tools() {
    local missing=() name
    for name in gcc meson ninja pkg-config; do
        command -v $name >/dev/null || missing+=("$name")
    done
    for name; do
        pkg-config --exists "$name" 2>/dev/null || missing+=("$name (headers)")
    done
    [ ${#missing[@]} = 0 ] || die "missing: ${missing[*]}.  On Fedora: dnf" \
        "install gcc glib2-devel meson ninja-build pkgconf zlib-devel; on Arch:" \
        "pacman -S --needed base-devel glib2 glib2-devel meson zlib; on" \
        "openSUSE: zypper install gcc glib2-devel meson ninja pkgconf zlib-devel"
}

# Debian's archive with a state of our own below build/apt:
# suites that the machine does not use, nothing installed, every file checked by
# apt against the signed index.  Once it is unpacked below build/, it is trusted
# as the scripts beside it are.  Indices of source packages are large, too, and
# only base_source needs them; what is not free is for who asked for it: both have
# a state of their own.
APT=$BUILD/apt APT_KIND=deb APT_COMPONENT=main

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

# The mirror that this machine already uses for the main archive (or for its
# security updates, with "security").
apt_mirror() {
    local uri suites='bookworm|trixie|forky|sid|stable|testing|unstable'
    # without the indices, which an image of a machine may lack
    uri=$(apt-get update --print-uris |
        sed -n "s|^'\(.*/\)dists/\(.*\)/InRelease'.*|\2 \1|p" | sort -u |
        awk -v security="${1:-}" -v suites="^($suites)(-security)?\$" '
            $1 ~ suites && ($1 ~ /-security$/) == (security != "") {
                print $2
                exit
            }')
    [ -n "$uri" ] || die "apt on this machine knows no${1:+ $1} archive of" \
        "Debian, which this needs: run it on Debian, or add one to" \
        "/etc/apt/sources.list.d"
    printf '%s\n' "$uri"
}

# apt_lists: write the private configuration and get the indices, unless those
# of the last 12 hours are there, and of all that is wanted now.
apt_lists() {
    local main security
    [ -z "$(find "$APT/complete" -mmin -720 2>/dev/null)" ] ||
        [ "$(cat "$APT/complete")" != "$(declare -f apt_sources)" ] || return 0
    main=$(apt_mirror)
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
	$APT_KIND [signed-by=$key] $security bookworm-security $APT_COMPONENT
	$APT_KIND [signed-by=$key] $security trixie-security $APT_COMPONENT
	$APT_KIND [signed-by=$key check-valid-until=no] $main sid $APT_COMPONENT
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
    local root=$BUILD/root/$1 suite=$2 wanted="$*" deb
    shift 2
    rm -rf "$root.new" "$root.debs"
    mkdir -p "$root.new" "$root.debs/partial"
    if [ $APT_COMPONENT = main ]; then
        apt_private apt-get install --yes --download-only \
            --no-install-recommends -o Dir::Cache::Archives="$root.debs" \
            -t "$suite" "$@"
    else
        # what they depend on is not there
        (cd "$root.debs" && apt_private apt-get download "${@/%//$suite}")
    fi
    for deb in "$root.debs"/*.deb; do
        case " $* : ${deb##*/}" in
        *' libc6 '*) ;;
        *': libc6_'*|*': libgcc-s1_'*) continue ;;
        esac
        dpkg-deb -x "$deb" "$root.new"
    done
    (cd "$root.debs" && sha256sum -- *.deb) >"$root.new/packages"
    printf '%s\n' "$wanted" >"$root.new/wanted"
    replace "$root.new" "$root"
    rm -rf "$root.debs"
}

# replace NEW OLD: put the directory NEW in the place of OLD, of which nothing is
# seen from then on, even if it is not all deleted.
replace() {
    rm -rf "$2.old"
    [ ! -e "$2" ] || mv "$2" "$2.old"
    mv "$1" "$2"
    rm -rf "$2.old"
}

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

# write_wrapper FILE PRELOAD QEMU: hw-optimus/plugin/qemu-optimus.in as FILE,
# which loads PRELOAD into QEMU, a program in PATH or a path.
write_wrapper() {
    local file=$1 text
    text=$(<"$TOP/hw-optimus/plugin/qemu-optimus.in")
    text=${text//@PRELOAD@/"$2"}
    write_program "$file" "${text//@QEMU@/"$3"}"
}

# write_program FILE TEXT: whoever runs the old one goes on with it.
write_program() {
    printf '%s\n' "$2" >"$1.new"
    chmod +x "$1.new"
    mv "$1.new" "$1"
}

# emulator NAME: makes and prints build/emulator/NAME, where tests have the QEMU
# that is unpacked in build/root/NAME: qemu-system-x86_64, a script that runs it
# with its own libraries and firmware; qemu-optimus and qemu-test-optimus for
# that QEMU; and the files of the plugin, as links.
emulator() (
    set -e
    root=$BUILD/root/$1 dir=$BUILD/emulator/$1
    tied "$TOP/scripts/build-plugin" >&2
    step "plugins for tests" meson compile -C "$PLUGIN/meson" \
        test-{hotplug,nohotplug}{,-preload} >&2
    mkdir -p "$dir"
    write_program "$dir/qemu-system-x86_64" "#!/bin/sh
program='$root/usr/bin/qemu-system-x86_64'
libraries='$(root_libraries "$root")'
export QEMU_MODULE_DIR='$root/usr/$LIBDIR/qemu'
exec '$(root_linker "$root")' --library-path \"\$libraries\" \"\$program\" \\
    -L '$root/usr/share/seabios' -L '$root/usr/share/qemu' \"\$@\""
    ln -sf "$PLUGIN"/*.so "$PLUGIN"/meson/hw-optimus/plugin/test-*hotplug*.so \
        "$dir"
    [ ! -e "$PLUGIN/battery.aml" ] || ln -sf "$PLUGIN/battery.aml" "$dir"
    write_wrapper "$dir/qemu-optimus" "$dir/vfio-optimus-preload.so" \
        "$dir/qemu-system-x86_64"
    write_wrapper "$dir/qemu-test-optimus" "$dir/test-optimus-preload.so" \
        "$dir/qemu-system-x86_64"
    printf '%s\n' "$dir"
)

# built_tree: QEMU from source with the patch series; prints the directory of
# its qemu-system-x86_64.
built_tree() {
    tied "$TOP/scripts/build-tree" | sed -n -e 'w /dev/stderr' \
        -e 's|.* ready: \(.*\)/qemu-system-x86_64$|\1|p'
}

# need_pycotap: a printer of test results, for the tests in Python.
need_pycotap() {
    local root=$BUILD/root/pycotap
    export PYTHONPATH=$root/usr/lib/python3/dist-packages
    export PYTHONDONTWRITEBYTECODE=1
    [ ! -e "$root/packages" ] || return 0
    apt_lists
    step "pycotap" unpack_alone "$root" python3-pycotap/trixie
}

# need_meson: unpack the meson that is new enough for every QEMU.  Sets MESON.
need_meson() {
    local root=$BUILD/root/meson
    export PYTHONPATH=$root/usr/lib/python3/dist-packages
    export MESON=$root/usr/bin/meson
    [ ! -e "$root/packages" ] || return 0
    apt_lists
    step "meson" unpack_alone "$root" meson/bookworm-backports
}

# meson_setup DIR OPTION...: configure the repository in DIR, unless that was
# done with the same options, compiler and meson, and zlib has not come since.
meson_setup() {
    local dir=$1 settings
    settings="${CC:-cc} $(meson --version) $*"
    ! pkg-config --exists zlib || settings+=" zlib"
    shift
    [ "$(cat "$dir/settings" 2>/dev/null)" != "$settings" ] || return 0
    rm -rf "$dir"
    meson setup "$dir" "$TOP" "$@"
    printf '%s\n' "$settings" >"$dir/settings"
}

# unpack_alone ROOT PACKAGE/SUITE...: without what they depend on.
unpack_alone() {
    local root=$1 deb
    shift
    rm -rf "$root.new"
    mkdir -p "$root.new"
    cd "$root.new"
    apt_private apt-get download "$@"
    for deb in *.deb; do
        dpkg-deb -x "$deb" .
    done
    sha256sum -- *.deb >packages
    rm -- *.deb
    replace "$root.new" "$root"
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
