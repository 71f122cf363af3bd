# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What guests that mean harm are checked for.  To be sourced after tap.sh.

# kernel_is_well LOG: no complaint of the guest's kernel
kernel_is_well() {
    unsaid "$1" 'BUG:|Oops|general protection|Call Trace|soft lockup|rcu.*stall'
}

# as_without LOG LOG_WITHOUT: a guest that scans its memory, and one that does in
# the same machine without the device, find the same wherever the ROM is not
as_without() {
    local only
    only=$(comm -23 \
        <(sed -n 's/.*\(scan page=.*\)/\1/p' "$1" | grep -v what=rom | sort -u) \
        <(sed -n 's/.*\(scan page=.*\)/\1/p' "$2" | sort -u))
    [ -s "$2" ] && [ -z "$only" ] && return
    remark "only with the device: ${only:-nothing is known of the other}"
    return 1
}

# windows_are LOG SCANS: each scan finds the ROM and two pages of zeros, once
windows_are() {
    local pages
    pages=$(grep -a -c 'scan page=.* what=rom' "$1") || true
    [ "$pages" = $(($2 * 28)) ] && return
    remark "$pages pages of ROM in $2 scans in $1, not $2 times 28"
    return 1
}

# remark_guest NAME LOG: figures
remark_guest() {
    local line
    while read -r line; do
        remark "figures: $1 $line"
    done < <(grep -a -o -E -e '(scan|write|contract)=.*|busy: .*' "$2" | uniq)
}
