# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Results of the lab's machines (busybox): lines "lab: ok - TITLE" in $TAP_OUT, which
# relay of scripts/lib/tap.sh takes over on the host.  Without the plan of tap_end
# the script ended early.
TAP_NUMBER=0

note() { echo "lab: $*" >>"$TAP_OUT"; }

# check TITLE COMMAND..., remark, said, unsaid: as in tap.sh of the host
check() {
    local title="$1" ok=ok
    shift
    "$@" || ok='not ok'
    TAP_NUMBER=$((TAP_NUMBER + 1))
    note "$ok - $title"
}

remark() { note "# $*"; }

said() {
    grep -q -E -e "$2" "$1" && return
    remark "no \"$2\" in $1"
    return 1
}

unsaid() {
    [ -s "$1" ] && ! grep -q -E -e "$2" "$1" && return
    remark "$1 is missing or says \"$2\""
    return 1
}

tap_end() { note "1..$TAP_NUMBER"; }
