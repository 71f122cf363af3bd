# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Messages, steps with a log, and the lock of build/.  To be sourced, like all in
# this folder, after "set -euo pipefail"; each file sources those that it needs.
# All that is fetched or built lands below $BUILD.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=$TOP/build
# Without this, bash goes on after a ^C if the program that it waits for has
# ended by itself just then.
trap 'exit 130' INT

# one clock for a script and those that it calls
export VFIO_OPTIMUS_START=${VFIO_OPTIMUS_START:-$EPOCHSECONDS}
say() { printf '[%4d s] %s\n' $((EPOCHSECONDS - VFIO_OPTIMUS_START)) "$*"; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# answer OPTION: to the options of every script, whose usage() says what it does;
# and to those that it does not have
answer() {
    case $1 in
    -h | --help) usage ;;
    --version) printf '%s %s\n' "${0##*/}" "$("$TOP/scripts/lib/version")" ;;
    *) die "unknown option $1; see --help" ;;
    esac
    exit
}

# confirm YES QUESTION: exit unless the user says yes, or --yes did, as YES
confirm() {
    local answer=''
    [ -z "$1" ] || return 0
    read -r -p "$2 [y/N] " answer || true
    case $answer in
    [yY] | [yY][eE][sS]) ;;
    '') die "nothing was changed; --yes does it without a question" ;;
    *) die "nothing was changed" ;;
    esac
}

# need_room MIB: see that the disk with build/ has that much
need_room() {
    local dir=$BUILD free
    [ -e "$dir" ] || dir=$TOP
    free=$(df --output=avail -BM "$dir" | tail -n 1 | tr -dc 0-9)
    [ "$free" -ge "$1" ] || die "the disk with $BUILD has $free MiB left, and this" \
        "takes $1: make room, or move the repository to another disk"
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
        kill -- "-$2"
        for i in {1..50}; do sleep 0.1; kill -0 -- "-$2" || exit; done
        kill -KILL -- "-$2"' guard $$ "$TIED" \
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

# replace NEW OLD: put the directory NEW in the place of OLD, of which nothing is
# seen from then on, even if it is not all deleted.
replace() {
    rm -rf "$2.old"
    [ ! -e "$2" ] || mv "$2" "$2.old"
    mv "$1" "$2"
    rm -rf "$2.old"
}

# write_program FILE TEXT: whoever runs the old one goes on with it.
write_program() {
    printf '%s\n' "$2" >"$1.new"
    chmod +x "$1.new"
    mv "$1.new" "$1"
}
