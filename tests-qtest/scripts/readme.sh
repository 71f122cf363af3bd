# shellcheck shell=bash
# What README.md tells users to write.  To be sourced after scripts/lib/steps.sh.

# readme TEXT: the indented paragraph of README.md that contains it
readme() {
    awk -v text="$1" 'BEGIN { RS = "" } /^    / && index($0, text)' \
        "$TOP/README.md"
}
