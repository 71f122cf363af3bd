# bash completion for optimus-vbios                        -*- shell-script -*-
#
# SPDX-License-Identifier: GPL-2.0-or-later

_optimus_vbios()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    local cards options

    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "info trim extract dump ssdt --help" -- "$cur")
        return
    fi
    # The colons of an address separate words.
    if [[ ${COMP_LINE:0:COMP_POINT} =~ --host\ +([0-9a-f:.]*)$ ]]; then
        local typed=${BASH_REMATCH[1]}
        cards=$(cd /sys/bus/pci/devices 2>/dev/null && echo *)
        mapfile -t COMPREPLY < <(compgen -W "$cards ${cards//0000:/}" -- "$typed")
        COMPREPLY=("${COMPREPLY[@]#"${typed%"$cur"}"}")
        return
    fi
    case $prev in
    -o|--output)
        if [[ ${COMP_WORDS[1]} == @(extract|ssdt) ]]; then
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            return
        fi
        ;;
    --device|--at)
        return
        ;;
    esac
    if [[ $cur == -* ]]; then
        case ${COMP_WORDS[1]} in
        info) options="--json --host" ;;
        trim) options="--force --fix-checksum --all" ;;
        extract) options="--output --device --host" ;;
        dump) options="--host --output --force" ;;
        ssdt) options="--output --at --for --battery" ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "$options --help" -- "$cur")
        return
    fi
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}

complete -F _optimus_vbios optimus-vbios
