# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What hw-optimus/libvirt/README.md tells users to write.  To be sourced after
# scripts/lib/steps.sh.

PAGE=$TOP/hw-optimus/libvirt/README.md

# on_page TEXT: the indented paragraph of it that contains TEXT
on_page() {
    awk -v text="$1" 'BEGIN { RS = "" } /^    / && index($0, text)' "$PAGE"
}
