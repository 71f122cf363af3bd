# bash completion for optimus-vbios, optimus-doctor, optimus-attach -*- shell-script -*-
#
# SPDX-License-Identifier: GPL-2.0-or-later

# NVIDIA's display controllers, as lspci shows their addresses
_optimus_cards()
{
    local device vendor class
    for device in /sys/bus/pci/devices/*; do
        { read -r vendor <"$device/vendor"; read -r class <"$device/class"; } \
            2>/dev/null || continue
        [[ $vendor$class != 0x10de0x03* ]] || echo "${device##*/}"
    done | sed 's/^0000://'
}

# Guests of libvirt and of Proxmox
_optimus_guests()
{
    virsh --quiet list --all --name
    qm list | awk '$1 ~ /^[0-9]+$/ { print $1 }'
} 2>/dev/null

# _optimus_offer LIST [TYPED]: what of it begins with TYPED, of which bash replaces
# what follows the last colon only
_optimus_offer()
{
    local typed=${2-$cur}
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$typed")
    COMPREPLY=("${COMPREPLY[@]#"${typed%"$cur"}"}")
}

_optimus_files()
{
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
}

# sets "line" (what was typed), "cur", "prev", and "place", the number of the word
# that is none of options and their values, where an address is one word
_optimus_begin()
{
    local word after='' words
    cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} place=0
    line=${COMP_LINE:0:COMP_POINT}
    COMPREPLY=()
    read -ra words <<<"${line% *}"
    for word in "${words[@]:1}"; do
        if [[ $after = 1 ]]; then
            after=''
        elif [[ $word = -* ]]; then
            [[ " $1 " != *" $word "* ]] || after=1
        else
            place=$((place + 1))
        fi
    done
}

_optimus_vbios()
{
    local cur prev line place options
    _optimus_begin "-o --output --host --device --at --for"
    if [[ $COMP_CWORD = 1 ]]; then
        _optimus_offer "info trim extract dump ssdt --help --version"
        return
    fi
    if [[ $line =~ --host[\ =]+([0-9a-f:.]*)$ ]]; then
        _optimus_offer "$(_optimus_cards)" "${BASH_REMATCH[1]}"
        return
    fi
    case $prev in
    -o|--output)
        if [[ ${COMP_WORDS[1]} = @(extract|ssdt) ]]; then
            _optimus_files -d
            return
        fi
        ;;
    --device|--at)
        return
        ;;
    esac
    if [[ $cur = -* ]]; then
        case ${COMP_WORDS[1]} in
        info) options="--json --host" ;;
        trim) options="--force --fix-checksum --all" ;;
        extract) options="--output --device --host" ;;
        dump) options="--host --output --force" ;;
        ssdt) options="--output --at --for --battery" ;;
        esac
        _optimus_offer "$options --help"
        return
    fi
    _optimus_files -f
}

_optimus_doctor()
{
    local cur prev line place
    _optimus_begin "--rom --report --guest"
    case $prev in
    --rom|--report|--guest)
        _optimus_files -f
        return
        ;;
    esac
    if [[ $cur = -* ]]; then
        _optimus_offer "--rom --json --report --guest --force --version --help"
        return
    fi
    _optimus_offer "$(_optimus_cards)" "${line##* }"
}

_optimus_attach()
{
    local cur prev line place
    _optimus_begin ""
    if [[ $cur = -* ]]; then
        _optimus_offer "--undo --function --battery --force --yes --dry-run --help --version"
        return
    fi
    case $place in
    0) _optimus_offer "$(_optimus_guests)" ;;
    1) [[ $line = *' --undo '* ]] || _optimus_offer "$(_optimus_cards)" "${line##* }" ;;
    2) _optimus_files -f ;;
    esac
}

complete -F _optimus_vbios optimus-vbios
complete -F _optimus_doctor optimus-doctor
complete -F _optimus_attach optimus-attach
