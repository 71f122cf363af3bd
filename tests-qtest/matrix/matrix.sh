#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What test-matrix needs of the lab: matrix.sh ACTION ARG...
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../../scripts/lab/lab.sh
. "$(dirname "$0")/../../scripts/lab/lab.sh"

WORK=$LAB/matrix
GRUB=$BUILD/root/grub

# prepare: all packages
prepare() {
    lab_prepare
    unpack_tools
    unpack_packages firmware-13 trixie seabios ovmf
    try_packages firmware-14 sid ovmf-generic
    unpack_packages kexec bookworm kexec-tools
    unpack_packages grub bookworm grub-common grub-pc-bin grub-efi-amd64-bin \
        mtools
    mkdir -p "$WORK"
    # the other kernel's guests do without
    [ "$LAB_KERNEL" != kernel ] || step "matrix: what guests need" life
}

# Modules and kexec with its libraries, for the actions of l2-init
life() {
    local dir=$LAB_OUT/life root=$BUILD/root/kexec
    rm -rf "$dir"
    mkdir -p "$dir"/{bochs,virtio,lib}
    lab_modules "$dir/bochs" bochs
    lab_modules "$dir/virtio" virtio_pci virtio_blk
    cp "$LAB_ROOT"/boot/vmlinuz-* "$dir/vmlinuz"
    cp "$root/sbin/kexec" "$dir"
    in_root "$root" ldd "$dir/kexec" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' |
        xargs cp -Lt "$dir/lib"
    cp -L /lib64/ld-linux-x86-64.so.2 "$dir/lib"
}

# grub_image FORMAT OUT MODULE...: GRUB that reads grub.cfg from the disk
grub_image() {
    local format=$1 out=$2
    shift 2
    printf '%s\n' serial 'terminal_output serial' 'search --file --set=root /grub.cfg' \
        'configfile /grub.cfg' >"$out.cfg"
    in_root "$GRUB" "$GRUB/usr/bin/grub-mkimage" -O "$format" -o "$out" \
        -d "$GRUB/usr/lib/grub/$format" -c "$out.cfg" -p / \
        part_msdos fat search search_fs_file configfile normal linux serial \
        terminal "$@"
}

# grub_disk OUT COMMAND_LINE FILE[:NAME]...: a disk from which GRUB boots L2's
# kernel, with either firmware
grub_disk() {
    local out=$1 append=$2 start=2048
    shift 2
    rm -rf "$out" "$out.files"
    mkdir -p "$out.files/EFI/BOOT"
    cp "$LAB_ROOT"/boot/vmlinuz-* "$out.files/vmlinuz"
    lab_files "$out.more" "$@"
    cat "$LAB_OUT/l2.cpio" "$out.more" >"$out.files/initrd"
    cat >"$out.files/grub.cfg" <<-END
	linux /vmlinuz console=ttyS0 panic=-1 quiet $append
	initrd /initrd
	boot
	END
    grub_image x86_64-efi "$out.files/EFI/BOOT/BOOTX64.EFI"
    grub_image i386-pc "$out.core" biosdisk
    # boot.img starts the core after it, and gets a partition table
    cat "$GRUB/usr/lib/grub/i386-pc/boot.img" "$out.core" >"$out.new"
    [ "$(stat -c %s "$out.new")" -le $((start * 512)) ]
    truncate -s 96M "$out.new"
    /usr/bin/python3 - "$out.new" $start <<-'END'
	import os, struct, sys
	with open(sys.argv[1], "r+b") as disk:
	    start = int(sys.argv[2])
	    sectors = os.fstat(disk.fileno()).st_size // 512 - start
	    disk.seek(446)
	    disk.write(struct.pack("<B3xB3xII48x2s", 0x80, 0xc, start, sectors,
	                           b"\x55\xaa"))
	END
    export MTOOLS_SKIP_CHECK=1
    "$GRUB/usr/bin/mformat" -i "$out.new@@$((start * 512))" -F ::
    "$GRUB/usr/bin/mcopy" -i "$out.new@@$((start * 512))" -s \
        "$out.files"/{EFI,grub.cfg,vmlinuz,initrd} ::
    rm -r "$out.files" "$out.more" "$out.core" "$out.core.cfg"
    mv "$out.new" "$out"
}

case $1 in
prepare) prepare ;;
guest) shift; lab_guest "$@" ;;
grub-disk) shift; grub_disk "$@" ;;
*) die "unknown action $1" ;;
esac
