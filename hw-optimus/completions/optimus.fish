# fish completion for optimus-vbios, optimus-doctor, optimus-attach
#
# SPDX-License-Identifier: GPL-2.0-or-later

# NVIDIA's display controllers, as lspci shows their addresses
function __optimus_cards
    for device in /sys/bus/pci/devices/*
        if string match -q '0x10de 0x03*' -- (string join ' ' (cat $device/vendor $device/class 2>/dev/null))
            string replace -r '^0000:' '' -- (basename $device)
        end
    end
end

# Guests of libvirt and of Proxmox
function __optimus_guests
    virsh --quiet list --all --name 2>/dev/null | string match -r '.+'
    qm list 2>/dev/null | string match -r -g '^ *([0-9]+) '
end

# __optimus_words NUMBER: that many are there that are no options
function __optimus_words
    set -l words (string match -v -- '-*' (commandline -opc))
    test (count $words) -eq (math $argv[1] + 1)
end

set -l vbios complete -c optimus-vbios
$vbios -n __fish_use_subcommand -f -a 'info trim extract dump ssdt'
$vbios -n __fish_use_subcommand -l version -d 'the version'
$vbios -s h -l help -d help
$vbios -n '__fish_seen_subcommand_from info' -l json -d 'facts for programs'
$vbios -n '__fish_seen_subcommand_from info extract dump' -x -l host -a '(__optimus_cards)' -d 'a card of this machine'
$vbios -n '__fish_seen_subcommand_from trim dump' -l force -d overwrite
$vbios -n '__fish_seen_subcommand_from trim' -l fix-checksum -d 'set the last byte'
$vbios -n '__fish_seen_subcommand_from trim' -l all -d 'keep further chains of images'
$vbios -n '__fish_seen_subcommand_from extract' -x -l device -d 'IDs of the card'
$vbios -n '__fish_seen_subcommand_from extract ssdt' -x -s o -l output -a '(__fish_complete_directories)' -d 'where to write'
$vbios -n '__fish_seen_subcommand_from dump' -r -s o -l output -d 'what to write'
$vbios -n '__fish_seen_subcommand_from ssdt' -x -l at -d 'place in the guest'
$vbios -n '__fish_seen_subcommand_from ssdt' -r -l for -d 'command line of the guest'
$vbios -n '__fish_seen_subcommand_from ssdt' -l battery -d 'a battery, too'

set -l doctor complete -c optimus-doctor
$doctor -f -a '(__optimus_cards)'
$doctor -r -F -l rom -d 'the ROM file of the guest'
$doctor -l json -d 'for programs'
$doctor -r -F -l report -d 'write a report to send'
$doctor -r -F -l guest -d 'what guest-check has said'
$doctor -l force -d 'overwrite the report'
$doctor -l version -d 'the version'
$doctor -s h -l help -d help

set -l attach complete -c optimus-attach
$attach -n '__optimus_words 0' -f -a '(__optimus_guests)'
$attach -n '__optimus_words 1' -f -a '(__optimus_cards)'
$attach -l undo -d 'take it away again'
$attach -l function -d 'its other functions, too'
$attach -l battery -d 'a battery, too'
$attach -l force -d 'whatever the drivers say'
$attach -l yes -d 'do not ask'
$attach -l dry-run -d 'only show it'
$attach -l version -d 'the version'
$attach -s h -l help -d help
