# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# shellcheck disable=SC2034 # for who sources this, and for builds.sh
# NVIDIA's own driver for the guests of the lab, and a fake GPU for it.  To be
# sourced.
#
# The driver is Debian's package, unmodified: the package's patches for newer
# kernels are applied, and its C files are compiled and linked with NVIDIA's
# object, as dkms would.  It is not free: nothing of it is fetched before
# nvidia_agree, and all of it stays below build/.  NVIDIA's licence forbids to
# disassemble it.

# shellcheck source-path=SCRIPTDIR source=../lab.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lab.sh"

NVIDIA_SOURCE=$TOP/scripts/lab/nvidia
# release, suite, package, size: the last one for each generation of cards, and
# two that go on
NVIDIA_PACKAGES='340 sid nvidia-legacy-340xx-kernel-dkms 4
390 sid nvidia-legacy-390xx-kernel-dkms 10
470 bookworm nvidia-tesla-470-kernel-dkms 26
535 bookworm nvidia-kernel-dkms 45
550 trixie nvidia-kernel-dkms 42'
NVIDIA_RELEASES='340 390 470 535 550'
# For a QEMU with a fake-gpu, and for one in which vfio-optimus is one, too
NVIDIA_FAKE_GPU=(-plugin "$PLUGIN/meson/scripts/lab/fake-gpu.so")
NVIDIA_OPTIMUS=("${NVIDIA_FAKE_GPU[@]}"
    -plugin "$PLUGIN/meson/hw-optimus/plugin/nvidia-optimus.so")

# nvidia_agree RELEASE...: say what will be downloaded, unless it is there, and
# ask, unless VFIO_OPTIMUS_NONFREE=yes has answered already; exit if it is not
# wanted.  Afterwards the variable is set.
nvidia_agree() {
    local release suite package size missing='' answer=''
    while read -r release suite package size; do
        [[ " $* " = *" $release "* ]] || continue
        [ -e "$BUILD/root/nvidia-$release" ] ||
            missing+="    $release: $package of $suite, $size MB"$'\n'
    done <<<"$NVIDIA_PACKAGES"
    [ -n "$missing" ] || VFIO_OPTIMUS_NONFREE=yes
    export VFIO_OPTIMUS_NONFREE
    [ -n "$missing" ] || return 0
    cat <<EOF
This needs NVIDIA's own driver, from Debian's non-free archive:

${missing}
It is under NVIDIA's licence, which is not a free one: you may use it, and may
neither modify nor disassemble it (the whole text is, after the download, in
build/root/nvidia-*/usr/share/doc/*/copyright).  It is not installed and not
loaded on this machine: it stays below build/, and runs in guests.

EOF
    [ "${VFIO_OPTIMUS_NONFREE:-}" != yes ] || return 0
    [ ! -t 0 ] || read -r -p "Download it? [y/N] " answer
    case $answer in
    [yY] | [yY][eE][sS]) VFIO_OPTIMUS_NONFREE=yes ;;
    *) die "nothing was downloaded; VFIO_OPTIMUS_NONFREE=yes in the environment" \
        "agrees to it" ;;
    esac
}

# nvidia_prepare RELEASE: sets NVIDIA_FILES to a directory with the driver and
# what it needs in a guest; to nothing, with a line that says why, if Debian does
# not have that release any more.
nvidia_prepare() {
    local release suite package depends
    # The indices of that archive, and of no other: what they depend on is not there
    local APT=$BUILD/apt-nonfree APT_COMPONENT=non-free APT_ALONE=yes
    read -r release suite package _ < <(grep "^$1 " <<<"$NVIDIA_PACKAGES")
    NVIDIA_FILES=
    try_packages "nvidia-$release" "$suite" "$package"
    [ -e "$BUILD/root/nvidia-$release" ] || return 0
    NVIDIA_FILES=$LAB_OUT/nvidia-$release
    lab_make "$NVIDIA_FILES.ko" nvidia_module \
        "$BUILD/root/nvidia-$release/packages" "$LAB_ROOT/packages"
    rm -rf "$NVIDIA_FILES"
    mkdir "$NVIDIA_FILES"
    depends=$(tr '\0' '\n' <"$NVIDIA_FILES.ko" | sed -n 's/^depends=//p')
    # shellcheck disable=SC2086 # a list
    lab_modules "$NVIDIA_FILES" ${depends//,/ }
    ln -s "$NVIDIA_FILES.ko" "$NVIDIA_FILES/nvidia.ko"
    echo nvidia >>"$NVIDIA_FILES/order"
}

# nvidia_module OUT: compile and link it for the lab's kernel.
nvidia_module() {
    local headers=("$LAB_ROOT"/usr/src/linux-headers-*-amd64) patch jobs=-j1
    local dir=${1%.ko.new}.build release=${1#"$LAB_OUT/nvidia-"}
    release=${release%.ko.new}
    rm -rf "$dir"
    cp -r "$BUILD/root/nvidia-$release"/usr/src/nvidia-* "$dir"
    # shellcheck disable=SC2013 # a line of many words
    for patch in $(sed -n 's/^PATCH=(\(.*\))/\1/p' "$dir/dkms.conf"); do
        patch -s -d "$dir" -p1 <"$dir/patches/$patch"
    done
    # Not in parallel with 340's own tests of the kernel, which do not wait for
    # each other
    [ "$release" = 340 ] || jobs=-j2
    # the same by the names of 340 and of the others
    lab_kbuild "$dir" $jobs CC=gcc-12 ARCH=x86_64 NV_KERNEL_MODULES=nvidia \
        NV_SPECTRE_V2=0 {NV_,}KERNEL_SOURCES="${headers[0]%-amd64}-common" \
        {NV_,}KERNEL_OUTPUT="${headers[0]}"
    strip --strip-debug -o "$1" "$dir/nvidia.ko"
    rm -rf "$dir"
}

# nvidia_fake_gpu: build the fake GPU, and the device with it as its parent.
nvidia_fake_gpu() {
    tied "$TOP/scripts/build-plugin"
    step "fake GPU" meson compile -C "$PLUGIN/meson" fake-gpu nvidia-optimus
}

# nvidia_roms DIR [DEVICE]: VBIOS files that NVIDIA's driver takes for the device,
# and some that it does not; each is called what it is.
nvidia_roms() {
    local dir=$1 device=${2:-0x139b} name make=$NVIDIA_SOURCE/nvidia_roms.py
    local small=(--size 61440 --device "$device")
    mkdir -p "$dir"
    "$make" "$dir/good.rom" --device "$device"
    # The second image begins at 0xee00, which is no multiple of 4 KiB.
    "$make" "$dir/two-images.rom" --device "$device" --size 60928 --second 55808
    "$make" "$dir/small.rom" "${small[@]}"
    "$make" "$dir/device.rom" "${small[@]}" --device 0x1234
    "$make" "$dir/list.rom" "${small[@]}" --device 0x1234 --list "$device"
    "$make" "$dir/vendor.rom" "${small[@]}" --vendor 0x1002
    for name in checksum bit bit-sum; do
        "$make" "$dir/$name.rom" "${small[@]}" --break $name
    done
}

# nvidia_guest NAME DIR CARDS ROMS ARG...: the release that was prepared in a plain
# guest of the QEMU in DIR.  CARDS is BDF=FILE,... as in guest/nvidia, with files
# in the folder ROMS; ARGs are for QEMU.
nvidia_guest() {
    LAB_TIMEOUT=${LAB_TIMEOUT:-240} lab_guest \
        "$1" "$2" "optimus=script iomem=relaxed cards=$3" "$4:." \
        "$NVIDIA_FILES:nvidia" "$LAB_SOURCE/nvidia:script" -- \
        "${NVIDIA_OPTIMUS[@]}" -m 1024 "${@:5}"
}

# nvidia_lab NAME DIR ROM: the lab with a fake GPU in L0, which the QEMU in
# DIR, in L1, assigns to L2, twice: as a vfio-pci, and as a vfio-optimus with ROM.
# Consoles are in build/lab/run/NAME/{without,with}.log.
nvidia_lab() {
    local script=$LAB/nvidia/$1
    cat >"$script" <<-'END'
	. /l1.sh
	# guest NAME DEVICE: with the card in slot 1
	guest() {
	    l2 "$1" "optimus=script iomem=relaxed cards=0000:00:01.0=vbios.rom" \
	        -cpu host -m 768 -device "$2,addr=1"
	}
	L2_TIMEOUT=200
	# In braces, which are read as a whole: /script becomes L2's.
	{
	    assign 0000:00:09.0
	    assign 0000:00:0a.0
	    cp /guest /script
	    L2_FILES="$(find /nvidia) /vbios.rom /script"
	    guest without vfio-pci,host=00:09.0
	    L2_PLUGIN=/vfio-optimus.so
	    guest with vfio-optimus,host=00:0a.0,romfile=/vbios.rom
	    exit
	}
	END
    LAB_L0_ARGS=("${NVIDIA_FAKE_GPU[@]}" -device "fake-gpu,addr=9" -device "fake-gpu,addr=a")
    LAB_TIMEOUT=${LAB_TIMEOUT:-480} \
        lab_l1 "$1" "$2" "$script" "$3:vbios.rom" "$NVIDIA_FILES:nvidia" \
        "$LAB_SOURCE/nvidia:guest" "$PLUGIN/vfio-optimus.so"
}
