# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# For the scripts of test-libvirt-apparmor in L1, which has the packages of a whole
# Debian system: what that system's boot would have done, and guests of its libvirt.
#
#   . /l1.sh
#   . /system.sh
#
# $daemon is libvirtd, or virtqemud.
# All about a guest NAME is left in /out/NAME.*, see save(), said() and ended().

card=/sys/bus/pci/devices/0000:00:07.0
daemon=${daemon:-libvirtd}

# daemons: start them, confined as Debian has it
daemons() {
    # busybox is in /bin; for the rest there is only one directory, as on Debian
    ln -s usr/lib /lib
    ln -s usr/lib64 /lib64
    ln -s usr/sbin /sbin
    ln -sf /usr/bin/dash /bin/sh
    export PATH=/bin:/usr/bin:/usr/sbin LIBVIRT_DEFAULT_URI=qemu:///system
    mkdir -p /dev/pts /dev/shm /run
    rm -rf /var/run
    ln -s /run /var/run
    mount -t devpts devpts /dev/pts
    mount -t tmpfs tmpfs /dev/shm
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mount -t securityfs securityfs /sys/kernel/security
    # The kernel is to keep every denial to the log
    echo 0 >/proc/sys/kernel/printk_ratelimit

    # What the packages' own scripts set up
    printf '%s\n' root:x:0:0::/:/bin/sh \
        libvirt-qemu:x:64055:106::/var/lib/libvirt:/bin/false >/etc/passwd
    printf '%s\n' root:x:0: kvm:x:106: libvirt-qemu:x:64055: libvirt:x:107: \
        >/etc/group
    chown root:kvm /dev/kvm
    chmod 660 /dev/kvm
    touch /etc/apparmor.d/local/usr.sbin.libvirtd \
        /etc/apparmor.d/local/usr.lib.libvirt.virt-aa-helper
    install -D /dev/null /etc/apparmor.d/local/abstractions/libvirt-qemu
    # where libvirt 11 looks for a VFIO driver that is made for the card
    install -D /dev/null "/lib/modules/$(uname -r)/modules.alias"

    apparmor_parser -r /etc/apparmor.d/usr.*
    virtlogd --daemon
    $daemon --daemon
}

# host_driver: load the one that the card has while no guest does
host_driver() {
    local module
    while read -r module; do
        [ -d "/sys/module/$module" ] || insmod "/modules/bochs/$module.ko"
    done </modules/bochs/order
}

# save NAME: what there is to know while the guest runs, and the denials so far
save() {
    local pid
    virsh -q domuuid card >"/out/$1.uuid"
    pid=$(cat /run/libvirt/qemu/card.pid)
    cat "/proc/$pid/attr/current" >"/out/$1.profile"
    cat "/proc/$(cat "/run/$daemon.pid")/attr/current" >"/out/$1.daemon"
    cat "/proc/$pid/maps" >"/out/$1.maps"
    cat "/proc/$pid/status" >"/out/$1.status"
    tr '\0' '\n' <"/proc/$pid/cmdline" >"/out/$1.argv"
    readlink $card/driver >"/out/$1.driver"
}

# start NAME [OPTION]...: start the guest as "virsh start" does.  What that
# and QEMU said, and what the kernel denied, are there afterwards.
start() {
    local name=$1 status=0
    shift
    rm -f /var/log/libvirt/qemu/card.log /var/log/libvirt/card.log
    console=0
    virsh -q start card "$@" >"/out/$name.virsh" 2>&1 || status=$?
    cp /var/log/libvirt/qemu/card.log "/out/$name.qemu" || true
    [ $status != 0 ] || save "$name"
    denials "$name"
    return $status
}

# denials NAME: those since the last time, also when there is none
denials() {
    dmesg -c >/tmp/kernel
    cat /tmp/kernel >>/out/kernel.txt
    echo "denials:" >>"/out/$1.denied"
    grep DENIED /tmp/kernel >>"/out/$1.denied" || true
}

# wait_for COMMAND...: until it succeeds.  A guest that hangs ends L1, for the
# host to try again.
wait_for() {
    local seconds=0
    until "$@"; do
        sleep 1
        seconds=$((seconds + 1))
        if [ $seconds -gt 120 ]; then
            touch /out/hung
            exit 1
        fi
    done
}

# said NAME: what the guest's console has said since the last time
said() {
    sed 's/\r$//' /var/log/libvirt/card.log >/tmp/console
    tail -n "+$((console + 1))" /tmp/console >"/out/$1.log"
    console=$(wc -l </tmp/console)
}

rests() { tail -n "+$((console + 1))" /var/log/libvirt/card.log | grep -q 'lab: at rest'; }

# at_rest NAME: wait until the guest waits for the power button
at_rest() {
    wait_for rests
    said "$1"
    cat /run/libvirt/qemu/card.pid >"/out/$1.pid"
    denials "$1"
}

is_off() { virsh -q domstate card | grep -q 'shut off'; }

# ended NAME: wait for the guest's end
ended() {
    wait_for is_off
    said "$1"
    virsh -q domstate --reason card >"/out/$1.state"
    readlink $card/driver >"/out/$1.driver-after"
    denials "$1"
}

# install_guest: the guest "card" of virt-install's, which has no card yet
install_guest() {
    virt-install --name card --memory 384 --cpu qemu64 --import --machine q35 \
        --osinfo detect=off,require=off --disk none --network none --graphics none \
        --memballoon none --controller type=pci,model=pcie-root --serial \
        file,path=/var/log/libvirt/card.log --noautoconsole --boot "kernel=\
/l2/vmlinux,initrd=/l2/l2.img,kernel_args=\"console=ttyS0 panic=-1 quiet \
bdf=0000:01:00.0 boot0=0x0a8000a2 optimus=read,watch,nouveau,button \
nouveau.debug=bios=debug\"" --print-xml >/tmp/installed.xml &&
        virsh -q define /tmp/installed.xml
}

# attach NAME: give it the card, start it, and end it
attach() {
    virsh -q dumpxml --inactive card >"/out/$1.before"
    optimus-attach --force --yes card 00:07.0 /guest/vbios.rom >"/out/$1.said" 2>&1 &&
        start "$1" || return
    at_rest "$1"
    virsh -q destroy card || return
    ended "$1-end"
}

# undo NAME: take it away again, and start the guest
undo() {
    optimus-attach --undo --yes card >>"/out/$1.said" 2>&1 || return
    virsh -q dumpxml --inactive card >"/out/$1.after"
    start "$1-undone" || return
    virsh -q destroy card
    ended "$1-undone"
}
