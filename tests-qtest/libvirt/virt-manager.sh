# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# For test-virt-manager, in a root with virt-manager and libvirt: type our XML into
# the XML tab of a guest, and look at it again with another virt-manager.  What the
# tab and libvirt say is in /work/{before,typed,shown,virsh}.

# What the packages' own scripts set up
printf '%s\n' root:x:0:0::/root:/bin/sh libvirt-qemu:x:64055:106::/:/bin/false \
    >/etc/passwd
printf '%s\n' root:x:0: kvm:x:106: libvirt-qemu:x:64055: libvirt:x:107: >/etc/group
echo 00112233445566778899aabbccddeeff >/etc/machine-id
glib-compile-schemas /usr/share/glib-2.0/schemas
/usr/lib/x86_64-linux-gnu/gdk-pixbuf-2.0/gdk-pixbuf-query-loaders --update-cache
update-mime-database /usr/share/mime

# "Enable XML editing" of virt-manager's preferences
mkdir -p /root/.config/glib-2.0/settings
printf '[org/virt-manager/virt-manager]\nxmleditor-enabled=true\n' \
    >/root/.config/glib-2.0/settings/keyfile
export GSETTINGS_BACKEND=keyfile GTK_MODULES=gail:atk-bridge DISPLAY=:77 \
    XDG_RUNTIME_DIR=/run/user
mkdir -m 700 /run/user
mkdir -p /etc/libvirt /var/log/libvirt
printf '%s\n' 'security_driver="none"' 'namespaces=[]' 'cgroup_controllers=[]' \
    >/etc/libvirt/qemu.conf
echo 'auth_unix_rw="none"' >/etc/libvirt/libvirtd.conf
rm -rf /var/run
ln -s /run /var/run
virtlogd --daemon
libvirtd --daemon

cat >/tmp/guest.xml <<END
<domain type='qemu'>
  <name>guest</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices>
</domain>
END
virsh -q -c qemu:///system define /tmp/guest.xml

mkdir -m 1777 /tmp/.X11-unix
Xvfb :77 -screen 0 1100x900x24 &
# tab ARGUMENT...: what is done in the tab of a new virt-manager
tab() {
    timeout 100 dbus-run-session -- sh -c '
        /usr/libexec/at-spi-bus-launcher --launch-immediately &
        virt-manager --no-fork --connect qemu:///system \
            --show-domain-editor guest &
        python3 /work/xml-tab.py "$@"
        kill $!' tab "$@"
}
tab /work/before /work/typed /work/hostdev.xml /work/qemu.xml
tab /work/shown
virsh -c qemu:///system dumpxml guest >/work/virsh
