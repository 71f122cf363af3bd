# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The test lab: real VFIO in nested guests, and plain guests with the same
# kernel, all under TCG and without privileges.  To be sourced.
#
#   L0   QEMU 10.0 with an IOMMU, on this machine
#   L1   Debian's kernel, busybox, vfio-pci and the QEMU under test
#   L2   Debian's kernel with nouveau and the module scripts/lab/guest/optimus_guest
#
# LAB_KERNEL=kernel-6.12 takes the kernel of bookworm-backports, and VFIO modules
# built from its source with what Debian leaves out: iommufd and the character
# devices that "fd=" is about.

# shellcheck source-path=SCRIPTDIR source=../lib/builds.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/builds.sh"

LAB=$BUILD/lab
LAB_SOURCE=$TOP/scripts/lab/guest
LAB_KERNEL=${LAB_KERNEL:-kernel}
LAB_ROOT=$BUILD/root/$LAB_KERNEL
LAB_OUT=$LAB/$LAB_KERNEL
LAB_MODULES=("$LAB_ROOT/lib/modules")
LAB_RETRIES=0
# The plugins of the build directory that meson runs the test of
# shellcheck disable=SC2034 # for the scripts that source this
LAB_PLUGINS=${VFIO_OPTIMUS_PLUGINS:-$BUILD/check/hw-optimus/plugin}
# for L0: more arguments
LAB_L0_ARGS=()

# lab_unpack: the packages that the lab is made of, which others look into too.
lab_unpack() {
    local suite=bookworm
    [ "$LAB_KERNEL" = kernel ] || suite=bookworm-backports
    unpack_packages qemu-7.2 bookworm qemu-system-x86 seabios ovmf ipxe-qemu
    unpack_packages qemu-10.0 bookworm-backports qemu-system-x86 seabios \
        ipxe-qemu
    unpack_packages "$LAB_KERNEL" $suite linux-image-amd64 \
        linux-headers-amd64 busybox-static
    emulator qemu-7.2 >/dev/null
    emulator qemu-10.0 >/dev/null
}

# lab_unpack_newer: QEMUs that are tested, too, each with the C library of its own.
lab_unpack_newer() {
    try_packages qemu-10.0.13 trixie qemu-system-x86 seabios libc6
    try_packages qemu-11.1 trixie qemu-system-{x86,common,data}/trixie-backports \
        seabios/trixie-backports libc6
    emulator qemu-10.0.13 >/dev/null
    emulator qemu-11.1 >/dev/null
}

# lab_unpack_libvirt SUITE: build/root/libvirt-SUITE, a system with libvirt and QEMU.
lab_unpack_libvirt() {
    unpack_packages "libvirt-$1" "$1" libc6 dash coreutils apparmor libvirt-daemon \
        libvirt-daemon-driver-qemu libvirt-clients libvirt-daemon-system \
        qemu-system-x86 virtinst acpica-tools
}

# lab_unpack_domains SUITE: build/root/domains-SUITE, the domains of the tests of
# libvirt's own source, and the arguments that they become.
lab_unpack_domains() {
    # shellcheck disable=SC2034 # for apt_private
    local APT=$BUILD/apt-source APT_KIND=deb-src dir=$BUILD/root/domains-$1
    [ ! -e "$dir" ] || return 0
    need_packages xz-utils
    apt_lists
    step "domains of libvirt's tests, $1" lab_unpack_domains_into "$1" "$dir"
}

lab_unpack_domains_into() {
    rm -rf "$2.new" "$2.files"
    mkdir -p "$2.new" "$2.files"
    cd "$2.files" || return
    apt_private apt-get source --download-only --tar-only "libvirt/$1"
    # which was called qemuxml2argvdata up to 10.0
    tar -xf ./*.orig.tar.xz -C "$2.new" --strip-components=3 --wildcards \
        '*/tests/qemuxml*data/*.xml' '*/tests/qemuxml*data/*.args'
    cd "$BUILD" || return
    mv "$2.new" "$2"
    rm -rf "$2.files"
}

# lab_has NAME: whether build/root/NAME (qemu-11.1) is there, with that version.
lab_has() {
    grep -s -q "qemu-system-x86_1%3a${1#qemu-}[.+]" "$BUILD/root/$1/packages"
}

# lab_prepare [DIR]...: get and build what is missing or out of date.  The DIRs
# are those of the QEMUs that lab_l1 shall run: an unpacked root or the folder
# of a qemu-system-x86_64.  Not to be called in a condition, where bash would
# go on after errors.
lab_prepare() {
    local dir source=$BUILD/root/${LAB_KERNEL/kernel/source}
    local inputs=("$LAB_ROOT/packages" "$TOP/scripts/lab/lab.sh")
    need_packages gcc-12 make libc6-dev pahole xz-utils zstd
    lab_unpack
    mkdir -p "$LAB/run" "$LAB_OUT"
    lab_make "$LAB_OUT/vmlinux" lab_vmlinux "${inputs[@]}"
    lab_make "$LAB_OUT/optimus_guest.ko" lab_module "${inputs[@]}" \
        "$LAB_SOURCE"/optimus_guest/*
    lab_make "$LAB_OUT/l2.cpio" lab_l2_cpio "${inputs[@]}" \
        "$LAB_OUT/optimus_guest.ko" "$LAB_SOURCE"/{l2-init,tap.sh}
    if [ "$LAB_KERNEL" != kernel ]; then
        unpack_packages "${source##*/}" bookworm-backports "linux-${source##*/}"
        lab_make "$LAB_OUT/vfio.sums" lab_vfio "${inputs[@]}" \
            "$source/packages"
        inputs+=("$LAB_OUT/vfio.sums")
        LAB_MODULES=("$LAB_OUT/vfio" "${LAB_MODULES[@]}")
    fi
    lab_make "$LAB_OUT/l1.cpio" lab_l1_cpio "${inputs[@]}" \
        "$LAB_OUT/l2.cpio" "$LAB_SOURCE"/{l1-init,l1.sh,tap.sh}
    for dir; do
        lab_find_qemu "$dir"
        lab_make "$LAB_ARCHIVE" lab_qemu_cpio "$LAB_QEMU" \
            "$LAB_QEMU_ROOT/packages" "$TOP/scripts/lab/lab.sh"
    done
}

# lab_make OUT FUNCTION INPUT...: call FUNCTION to write a file whose name it
# gets, unless OUT was made from the same INPUTs.
lab_make() {
    local out=$1 function=$2 sum
    shift 2
    sum=$(sha256sum -- "$@")
    [ ! -f "$out" ] || [ "$(cat "$out.sum" 2>/dev/null)" != "$sum" ] || return 0
    rm -f "$out" "$out.sum"
    step "lab: ${out#"$LAB"/}" "$function" "$out.new"
    mv "$out.new" "$out"
    printf '%s\n' "$sum" >"$out.sum"
}

# The kernel as PVH wants it: no decompressing under TCG.
lab_vmlinux() {
    /usr/bin/python3 - "$LAB_ROOT"/boot/vmlinuz-* "$1" <<-'END'
	import struct, subprocess, sys
	image = open(sys.argv[1], "rb").read()
	start = (image[0x1f1] + 1) * 512 + struct.unpack_from("<I", image, 0x248)[0]
	# the last four bytes are the length of the result
	end = start + struct.unpack_from("<I", image, 0x24c)[0] - 4
	tool = "xz" if image[start:].startswith(b"\xfd7zXZ") else "zstd"
	with open(sys.argv[2], "wb") as out:
	    subprocess.run([tool, "-dc"], input=image[start:end], stdout=out,
	                   check=True)
	END
}

# lab_kbuild DIR ARG...: build the modules in DIR.  Debian's headers refer to
# /usr/src for the common Makefile; make gets it by name.
lab_kbuild() {
    local dir=$1 headers=("$LAB_ROOT"/usr/src/linux-headers-*-amd64)
    shift
    make -C "${headers[0]}" -f "${headers[0]%-amd64}-common/Makefile" \
        M="$dir" "$@" modules
}

lab_module() {
    local work=$LAB_OUT/module
    rm -rf "$work"
    mkdir "$work"
    cp "$LAB_SOURCE"/optimus_guest/* "$work"
    lab_kbuild "$work"
    strip --strip-debug -o "$1" "$work/optimus_guest.ko"
}

# VFIO and iommufd anew, with VFIO_DEVICE_CDEV.  One function of lib/ that
# iommufd calls is not in Debian's kernel: it becomes part of the module.
lab_vfio() {
    local work=$LAB_OUT/vfio other
    rm -rf "$work"
    mkdir "$work"
    tar -xf "$BUILD/root/${LAB_KERNEL/kernel/source}"/usr/src/*.tar.xz \
        -C "$work" --strip-components=1 --wildcards '*/drivers/vfio' \
        '*/drivers/iommu/iommufd' '*/drivers/iommu/*.h' '*/lib/interval_tree.c'
    {
        echo '#include <linux/interval_tree.h>'
        sed '/^#ifdef CONFIG_INTERVAL_TREE_SPAN/,/^#endif/!d; /^EXPORT_/d' \
            "$work/lib/interval_tree.c"
    } >"$work/drivers/iommu/iommufd/span.c"
    echo 'iommufd-y += span.o' >>"$work/drivers/iommu/iommufd/Makefile"
    cat >"$work/Kbuild" <<-'END'
	obj-m := drivers/iommu/iommufd/ drivers/vfio/
	subdir-ccflags-y := -DCONFIG_IOMMUFD_MODULE=1 \
		-DCONFIG_VFIO_DEVICE_CDEV=1 -DCONFIG_INTERVAL_TREE_SPAN_ITER=1
	END
    # what other devices need is not wanted
    for other in MDEV MLX5 PDS QAT VIRTIO; do
        set -- "$@" "CONFIG_VFIO_$other=" "CONFIG_${other}_VFIO_PCI="
    done
    lab_kbuild "$work" -j2 CONFIG_IOMMUFD=m CONFIG_VFIO_DEVICE_CDEV=y "${@:2}"
    find "$work" -name '*.ko' -exec strip --strip-debug {} +
    find "$work" -name '*.ko' -exec sha256sum {} + >"$1"
}

# lab_tree: an empty tree with busybox, the module and what writes results.
lab_tree() {
    rm -rf "$1"
    mkdir -p "$1"/{bin,dev,proc,sys,tmp,out,modules}
    cp "$LAB_ROOT/bin/busybox" "$1/bin"
    cp "$LAB_OUT/optimus_guest.ko" "$1/modules"
    cp "$LAB_SOURCE/tap.sh" "$1"
}

# lab_modules DIR NAME...: the kernel's modules NAME and what they depend on;
# DIR/order lists them in the order to load them in.
lab_modules() {
    local dir=$1 name file depends
    shift
    for name; do
        name=${name//-/_}
        [ ! -f "$dir/$name.ko" ] || continue
        file=$(find "${LAB_MODULES[@]}" \
            -regex ".*/${name//_/[-_]}\.ko\(\.xz\)?" -print -quit)
        [ -n "$file" ] || die "no module $name in ${LAB_ROOT##*/}"
        case $file in
        *.xz) xz -dc "$file" >"$dir/$name.ko" ;;
        *) cp "$file" "$dir/$name.ko" ;;
        esac
        depends=$(tr '\0' '\n' <"$dir/$name.ko" | sed -n 's/^depends=//p')
        # shellcheck disable=SC2086 # a list
        lab_modules "$dir" ${depends//,/ }
        printf '%s\n' "$name" >>"$dir/order"
    done
}

# lab_cpio TREE OUT: an archive as the kernel wants it; TREE is used up.
lab_cpio() {
    (cd "$1" && find . | "$LAB_ROOT/bin/busybox" cpio -o -H newc) >"$2"
    rm -rf "$1"
}

lab_l2_cpio() {
    lab_tree "$1.tree"
    install "$LAB_SOURCE/l2-init" "$1.tree/init"
    lab_modules "$1.tree/modules" nouveau bochs button evdev
    lab_cpio "$1.tree" "$1"
}

lab_l1_cpio() {
    lab_tree "$1.tree"
    install "$LAB_SOURCE/l1-init" "$1.tree/init"
    cp "$LAB_SOURCE/l1.sh" "$1.tree"
    lab_modules "$1.tree/modules" vfio_iommu_type1 vfio_pci kvm_amd
    mkdir "$1.tree/l2" "$1.tree/modules/other"
    # a driver for what shares its IOMMU group with the chipset's other parts
    lab_modules "$1.tree/modules/other" i2c_i801
    cp "$LAB_OUT"/{l2.cpio,vmlinux} "$1.tree/l2"
    cp "$LAB_ROOT"/boot/vmlinuz-* "$1.tree/l2/vmlinuz"
    lab_cpio "$1.tree" "$1"
}

# lab_find_qemu DIR: sets LAB_QEMU, the program, LAB_QEMU_ROOT, for libraries
# and firmware, and LAB_ARCHIVE, all that for L1.
lab_find_qemu() {
    LAB_QEMU_ROOT=$1
    LAB_QEMU=$1/usr/bin/qemu-system-x86_64
    if [ -x "$1/qemu-system-x86_64" ]; then
        LAB_QEMU_ROOT=$BUILD/root/qemu-10.0
        LAB_QEMU=$1/qemu-system-x86_64
    fi
    [ -x "$LAB_QEMU" ] || die "no qemu-system-x86_64 in $1"
    LAB_ARCHIVE=${1#"$BUILD"/}
    LAB_ARCHIVE=$LAB/${LAB_ARCHIVE//\//-}.cpio
}

# The QEMU under test with all that it needs in L1.
lab_qemu_cpio() {
    local tree=$1.tree lib=$1.tree/$LIBDIR module linker
    linker=$(root_linker "$LAB_QEMU_ROOT")
    rm -rf "$tree"
    mkdir -p "$tree"/{usr/bin,usr/share,lib64} "$tree/usr/$LIBDIR/qemu" "$lib"
    cp "$LAB_QEMU" "$tree/usr/bin"
    "$linker" --library-path "$(root_libraries "$LAB_QEMU_ROOT")" --list \
        "$LAB_QEMU" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | xargs cp -Lt "$lib"
    cp -L "$linker" "$tree/lib64"
    for module in "$LAB_QEMU_ROOT/usr/$LIBDIR"/qemu/accel-*.so; do
        [ ! -e "$module" ] || cp "$module" "$tree/usr/$LIBDIR/qemu"
    done
    mkdir "$tree"/usr/share/{seabios,qemu,OVMF}
    cp "$LAB_QEMU_ROOT"/usr/share/seabios/bios*.bin "$tree/usr/share/seabios"
    cp "$LAB_QEMU_ROOT"/usr/share/qemu/{kvmvapic,linuxboot*,pvh}.bin \
        "$tree/usr/share/qemu"
    cp "$BUILD"/root/qemu-7.2/usr/share/OVMF/OVMF_{CODE,VARS}_4M.fd \
        "$tree/usr/share/OVMF"
    lab_cpio "$tree" "$1"
}

# lab_files OUT FILE[:NAME]...: an archive with files and folders under the
# NAME (default: the last part of FILE, in /).
lab_files() {
    local out=$1 file name
    shift
    rm -rf "$out.tree"
    mkdir "$out.tree"
    for file; do
        name=${file##*/}
        [ "$file" = "${file%:*}" ] || name=${file##*:}
        mkdir -p "$(dirname "$out.tree/$name")"
        cp -rLT "${file%:*}" "$out.tree/$name"
    done
    lab_cpio "$out.tree" "$out"
}

# lab_l1 NAME DIR SCRIPT FILE[:NAME]...: boot L1 with the QEMU in DIR, or with
# what the archive DIR (.cpio) has instead, and run SCRIPT there (a shell script
# that sources /l1.sh).  Returns its status; what it left in /out is in
# build/lab/run/NAME afterwards, with L1's console.log.
# If a machine hangs (QEMU's emulation of SVM is not perfect) all is done once
# more, and counted in LAB_RETRIES; a second time ends the script, with the end of
# the console.  LAB_TIMEOUT is the limit for L1 in seconds.
lab_l1() {
    local run=$LAB/run/$1 script=$3 try
    case $2 in
    *.cpio) LAB_ARCHIVE=$2 ;;
    *) lab_find_qemu "$2" ;;
    esac
    [ -f "$LAB_ARCHIVE" ] || die "lab_prepare has not been told of $2"
    shift 3
    rm -rf "$run" "$run.hung"
    for try in 1 2; do
        # L1 hangs where its console cannot be written
        need_room 300
        mkdir "$run"
        lab_files "$run/files" "$script:script" "$@"
        cat "$LAB_OUT/l1.cpio" "$LAB_ARCHIVE" "$run/files" >"$run/initrd"
        lab_l0 "$run" || true
        rm "$run/initrd" "$run/files"
        if tar -xf "$run/out.tar" -C "$run" 2>/dev/null &&
            [ -f "$run/status" ] && [ ! -f "$run/hung" ]; then
            rm "$run/out.tar"
            return "$(cat "$run/status")"
        fi
        [ $try = 1 ] || break
        LAB_RETRIES=$((LAB_RETRIES + 1))
        printf 'lab: %s hung, once more\n' "${run##*/}" >&2
        mv "$run" "$run.hung"
    done
    tail -n 20 "$run/console.log" >&2
    die "no result of ${run##*/} in two tries; its console ends as shown above"
}

# The kernel's check of its timer fails where TCG is slow, and it panics.
# In L0, TCG changes interrupt_request at a #VMEXIT without a lock (do_vmexit()
# in target/i386/tcg; newer QEMUs use atomic operations), and may so lose the bit
# that the timer's thread sets for the APIC.  A timer that ticks by itself sets
# it again; after one that is set for one tick at a time, L1 would sleep for ever.
lab_l0() {
    local run=$1 root=$BUILD/root/qemu-10.0
    timeout --foreground -k 5 "${LAB_TIMEOUT:-240}" "$(qemu_linker "$root")" \
        --library-path "$(root_libraries "$root")" \
        "$root/usr/bin/qemu-system-x86_64" -L "$root/usr/share/seabios" \
        -L "$root/usr/share/qemu" -nodefaults -display none -no-reboot \
        -M q35 -device intel-iommu,intremap=on,caching-mode=on \
        -accel tcg,thread=multi,tb-size=1024 -cpu max -m 2560 \
        -device bochs-display,vgamem=32M,addr=7 \
        -device bochs-display,vgamem=32M,addr=8 "${LAB_L0_ARGS[@]}" \
        -kernel "$LAB_OUT/vmlinux" -initrd "$run/initrd" \
        -append "console=ttyS0 panic=-1 quiet intel_iommu=on no_timer_check nohz=off highres=off" \
        -serial "file:$run/console.log" -serial "file:$run/out.tar" \
        </dev/null >"$run/qemu.log" 2>&1
}

# lab_guest NAME DIR COMMAND_LINE [FILE[:NAME]...] -- ARG...: boot L2's kernel
# as a plain guest of the QEMU in DIR on this machine, with ARGs added.
# Its console is in build/lab/run/NAME/console.log, QEMU's own messages in
# qemu.log, and command starts it again; returns QEMU's status, or 1 if the
# guest did not come to its end.
# Variables: LAB_MACHINE (q35), LAB_ACCEL (tcg), LAB_FIRMWARE (seabios, ovmf, a
# file of SeaBIOS *.bin or of OVMF), LAB_TIMEOUT, LAB_IMAGE (vmlinux for SeaBIOS,
# vmlinuz, or disk, which is among the ARGs).
lab_guest() {
    local run=$LAB/run/$1 append="console=ttyS0 panic=-1 quiet $3" status=0
    local files=() firmware=() kernel=$LAB_OUT/vmlinux image file command
    lab_find_qemu "$2"
    shift 3
    while [ "$1" != -- ]; do
        files+=("$1")
        shift
    done
    shift
    rm -rf "$run"
    mkdir "$run"
    : >"$run/console.log"
    lab_files "$run/files" "${files[@]}"
    cat "$LAB_OUT/l2.cpio" "$run/files" >"$run/initrd"
    case ${LAB_FIRMWARE:-seabios} in
    seabios) ;;
    *.bin) firmware=(-bios "$LAB_FIRMWARE") ;;
    *)
        # UEFI wants a kernel with an EFI stub
        image=vmlinuz
        file=${LAB_FIRMWARE/#ovmf/$BUILD/root/qemu-7.2/usr/share/OVMF/OVMF_CODE_4M.fd}
        firmware=(-drive "if=pflash,format=raw,readonly=on,file=$file")
        ;;
    esac
    [ "${LAB_IMAGE:-${image:-}}" != vmlinuz ] ||
        kernel=$(echo "$LAB_ROOT"/boot/vmlinuz-*)
    command=(timeout --foreground -k 5 "${LAB_TIMEOUT:-90}"
        "$(qemu_linker "$LAB_QEMU_ROOT")"
        --library-path "$(root_libraries "$LAB_QEMU_ROOT")"
        "$LAB_QEMU" -L "$LAB_QEMU_ROOT/usr/share/seabios"
        -L "$LAB_QEMU_ROOT/usr/share/qemu" -nodefaults -display none
        -no-reboot -M "${LAB_MACHINE:-q35}" -accel "${LAB_ACCEL:-tcg}" -cpu max -m 384
        "${firmware[@]}" -serial "file:$run/console.log")
    [ "${LAB_IMAGE:-}" = disk ] ||
        command+=(-kernel "$kernel" -initrd "$run/initrd" -append "$append")
    command+=("$@")
    printf '%s\n' "${command[*]@Q}" >"$run/command"
    "${command[@]}" </dev/null >"$run/qemu.log" 2>&1 || status=$?
    rm "$run/files"
    sed -i 's/\r$//' "$run/console.log"
    [ $status != 0 ] || grep -q 'lab: 1\.\.[0-9]*$' "$run/console.log" || status=1
    return $status
}
