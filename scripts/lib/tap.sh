# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Results of shell tests as TAP.  To be sourced; from then on standard output
# goes to standard error, and only results go where it went.

exec 3>&1 1>&2
TAP_NUMBER=0 TAP_FAILED=0

# check TITLE COMMAND...: one result, by the command's status
check() {
    local title=$1 ok=ok
    shift
    TAP_NUMBER=$((TAP_NUMBER + 1))
    "$@" || { ok='not ok'; TAP_FAILED=$((TAP_FAILED + 1)); }
    printf '%s %d - %s\n' "$ok" $TAP_NUMBER "$title" >&3
}

# skip TITLE REASON: one result that there is not
skip() {
    TAP_NUMBER=$((TAP_NUMBER + 1))
    printf 'ok %d - %s # SKIP %s\n' $TAP_NUMBER "$1" "$2" >&3
}

# remark TEXT: lines that are no result
remark() { printf '# %s\n' "${*//$'\n'/$'\n# '}" >&3; }

# said LOG PATTERN: a line of the log matches the extended regular expression
said() {
    grep -a -q -E -e "$2" "$1" && return
    remark "no \"$2\" in $1"
    return 1
}

# unsaid LOG PATTERN: the log is there, and no line of it matches
unsaid() {
    [ -s "$1" ] && ! grep -a -q -E -e "$2" "$1" && return
    remark "$1 is missing or says \"$2\""
    return 1
}

# relay FILE [PREFIX]: the results of a machine of the lab, from its lines "lab: ..."
# (a console that tells of several runs has a plan for each), and a bad one if not
# all are there
relay() {
    local line found=0 planned=
    while read -r line; do
        case $line in
        '# '*) remark "${line#\# }" ;;
        1..*)
            planned=$found found=0
            [ "${line#1..}" = "$planned" ] ||
                check "${2:-}$planned results of ${line#1..}" false
            ;;
        *)
            found=$((found + 1))
            check "${2:-}${line#*ok - }" [ "${line%% *}" = ok ]
            ;;
        esac
    done < <(LC_ALL=C sed -n -E 's/^(\[[^]]*\] )?lab: (# |(not )?ok - |1\.\.)/\2/p' "$1")
    [[ ${planned:-0} != 0 && $found = 0 ]] ||
        check "${2:-}the end of the results in $1" false
}

# tap_end: the plan; fails if a result was bad
tap_end() {
    printf '1..%d\n' $TAP_NUMBER >&3
    [ $TAP_FAILED = 0 ]
}
