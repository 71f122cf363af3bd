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

# relay FILE: the results that l1.sh wrote, and a bad one if not all are there
relay() {
    local line found=0 planned=
    while read -r line; do
        case $line in
        '# '*) remark "${line#\# }" ;;
        1..*) planned=${line#1..} ;;
        *)
            found=$((found + 1))
            check "${line#*ok - }" [ "${line%% *}" = ok ]
            ;;
        esac
    done < <(cat "$1")
    [ "$planned" = $found ] || check "$1: $found results of ${planned:-unknown}" false
}

# tap_end: the plan; fails if a result was bad
tap_end() {
    printf '1..%d\n' $TAP_NUMBER >&3
    [ $TAP_FAILED = 0 ]
}
