# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What guests that mean harm are checked for.  To be sourced after tap.sh.

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

# guest_is_well NAME GUEST LOG: by what it says itself; and figures of it
guest_is_well() {
    local line
    relay "$3" "$2: "
    check "$2: the kernel is well" unsaid "$3" \
        'BUG:|Oops|general protection|Call Trace|soft lockup|rcu.*stall'
    while read -r line; do
        remark "figures: $1-$2 $line"
    done < <(grep -a -o -E -e '(scan|write|contract)=.*|busy: .*' "$3" | uniq)
}

# harmless LOG LOG_WITHOUT DIGITS: a guest that scans, writes to places whose number
# has so many digits, and scans again; and as_without
harmless() {
    check "memory around the ROM is as without the device" as_without "$1" "$2"
    check "the ROM is where it belongs, before and after" windows_are "$1" 2
    check "writes to many places" said "$1" "write=ok places=[0-9]{$3,} "
}
