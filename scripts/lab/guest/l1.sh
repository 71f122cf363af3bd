# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# For the scripts that lab_l1 runs in L1 (busybox): assign devices, start L2.
#
#   . /l1.sh
#   assign 0000:00:07.0
#   l2 plain "optimus=nouveau" -device vfio-pci,host=0000:00:07.0
#   check "nouveau" said /out/plain.log "nouveau .* bios: "
#   tap_end                      (results are in /out/results, see tap.sh)
#
# Variables for l2: L2_ACCEL, L2_MACHINE, L2_KERNEL, L2_TIMEOUT, L2_FILES (files
# of L1 that L2 shall have at the same place), L2_PLUGIN.

while read -r module; do
    insmod "/modules/$module.ko" || exit 1
done </modules/order

TAP_OUT=/out/results
# shellcheck source-path=SCRIPTDIR source=tap.sh
. /tap.sh

# setsub BDF VENDOR:DEVICE: let the kernel remember these subsystem IDs
setsub() {
    insmod /modules/optimus_guest.ko action=setsub "bdf=$1" "sub=$2" &&
        [ "$(cat /sys/module/optimus_guest/parameters/result)" = 0 ] &&
        rmmod optimus_guest
}

# assign BDF [BOOT0]: make nouveau take the device for the GPU that BOOT0 says
# (default: a GM107; bar 0 is plain memory), and give it to vfio-pci
assign() {
    local device="/sys/bus/pci/devices/$1" bar0
    echo 1 >"$device/enable"
    bar0=$(head -n 1 "$device/resource" | cut -d' ' -f1)
    devmem "$bar0" 32 "${2:-0x117000a2}"
    echo 0 >"$device/enable"
    echo vfio-pci >"$device/driver_override"
    echo "$1" >/sys/bus/pci/drivers_probe
    [ "$(readlink "$device/driver")" = ../../../bus/pci/drivers/vfio-pci ]
}

# qemu ARG...: the QEMU under test
qemu() {
    local status=0
    timeout -s KILL "${L2_TIMEOUT:-90}" qemu-system-x86_64 \
        -L /usr/share/seabios -L /usr/share/qemu -nodefaults -display none \
        ${L2_PLUGIN:+-plugin "$L2_PLUGIN"} "$@" || status=$?
    # The process that watches the time stays for another second, and with it
    # what "fd=3" referred to: the device would be busy
    [ ! -e /proc/self/fd/3 ] || while pidof timeout >/dev/null; do
        sleep 0.1
    done
    return $status
}

# trial COMMAND;... ARG...: what QEMU says of a machine that does not run, to these
# commands of the monitor, and its status, are in the file $said
trial() {
    local commands="$1"
    shift
    trials=$((trials + 1)) said=/out/trial-$trials
    echo "$commands;quit" | tr ';' '\n' |
        qemu -S -M q35 -monitor stdio "$@" >$said 2>&1
    echo "status $?" >>$said
}

# l2 NAME COMMAND_LINE ARG...: boot L2 with its console in /out/NAME.log and
# QEMU's own messages in /out/NAME.qemu.  Returns QEMU's exit status; a guest
# that hangs ends L1, for the host to try again.
l2() {
    local name="$1" append="$2" start status file
    shift 2
    start=$(cut -d. -f1 /proc/uptime)
    cp /l2/l2.cpio /tmp/l2.img
    [ -z "$L2_FILES" ] || for file in $L2_FILES; do
        echo "${file#/}"
    done | (cd / && cpio -o -H newc 2>/dev/null) >>/tmp/l2.img
    echo "lab: L2 $name starts"
    status=0
    qemu -M "${L2_MACHINE:-q35}" -accel "${L2_ACCEL:-kvm}" -m 384 -no-reboot \
        -kernel "${L2_KERNEL:-/l2/vmlinux}" -initrd /tmp/l2.img \
        -append "console=ttyS0 panic=-1 quiet $append" \
        -serial "file:/out/$name.log" "$@" >"/out/$name.qemu" 2>&1 || status=$?
    echo "lab: L2 $name ends with $status after" \
        "$(($(cut -d. -f1 /proc/uptime) - start)) s"
    cat "/out/$name.qemu"
    [ ! -f "/out/$name.log" ] || sed -i 's/\r$//' "/out/$name.log"
    if [ $status = 137 ]; then
        touch /out/hung
        exit 1
    fi
    return $status
}
