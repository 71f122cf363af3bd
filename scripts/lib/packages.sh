# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Packages that the system itself gets.

# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

# need_packages PACKAGE...: install the Debian packages that are missing.
need_packages() {
    local missing=() package
    command -v dpkg-query >/dev/null || die "this needs Debian or a relative" \
        "of it (no dpkg here): install the equivalents of: $*"
    for package; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null |
            grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    lock_build
    as_root "installing ${missing[*]}" ||
        die "not installed: ${missing[*]}: install them as root, then run this again"
    step "installing ${missing[*]}" install_packages "${missing[@]}"
    UPDATED=yes
}

# as_root WHAT: ask for the password now, which system_apt cannot.  Sets SUDO.
as_root() {
    SUDO=()
    [ "$(id -u)" != 0 ] || return 0
    say "with sudo: $1"
    SUDO=(sudo --non-interactive)
    sudo --validate
}

# The indices are got once by a script.  Another mirror of the machine's may be out of
# reach, which does not matter.
UPDATED=''
install_packages() {
    [ -n "$UPDATED" ] || system_apt update || true
    system_apt install -y --no-install-recommends "$@"
}

# What the system's dpkg has begun it is to end, also without the script, whose
# lock is not the business of a service that is started on the way.
system_apt() {
    "${SUDO[@]}" env DEBIAN_FRONTEND=noninteractive setsid --wait \
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

# What compiles optimus-vbios and optimus-attach, too
need_vbios_packages() {
    if command -v dpkg-query >/dev/null; then
        need_build_packages
        need_packages libxml2-dev zlib1g-dev
    else
        need_build_tools glib-2.0 libxml-2.0 zlib
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
        "install gcc glib2-devel libxml2-devel meson ninja-build pkgconf zlib-devel;" \
        "on Arch: pacman -S --needed base-devel glib2 glib2-devel libxml2 meson" \
        "zlib; on openSUSE: zypper install gcc glib2-devel libxml2-devel meson ninja" \
        "pkgconf zlib-devel"
}
