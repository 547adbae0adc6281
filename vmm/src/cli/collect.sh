#!/bin/sh
# Gathers what describes the reserved memory and the CMA windows of the machine that it runs on, as a tar archive on stdout:
#
#   ssh root@board sh -s < collect.sh > board.tar
#
# `minivmm check board/board.dtb` and `minivmm model --import board/cma/NAME` read the files of the archive. The script needs a
# POSIX shell and tar, and root for debugfs. It changes nothing on the machine but a folder in /tmp, which it removes.
set -u

say() { echo "collect: $*" >&2; }

if [ -t 1 ]; then
    say 'the output is a terminal; redirect it to a file: sh collect.sh > board.tar'
    exit 2
fi
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
board=$folder/board
mkdir "$board"

# Copies the file $1 to $2 in the archive.
copy() {
    cat "$1" 2> /dev/null > "$board/$2" && return
    rm -f "$board/$2"
    say "$1 cannot be read"
}

copy /sys/firmware/fdt board.dtb
for name in buddyinfo cmdline iomem meminfo pagetypeinfo version; do
    copy /proc/$name $name
done
dmesg 2> /dev/null | grep -i -e cma -e 'reserved mem' > "$board/dmesg"

cma=/sys/kernel/debug/cma
[ -d $cma ] || say "$cma is absent: mount debugfs, or build the kernel with CONFIG_CMA_DEBUGFS=y"
for window in "$cma"/*; do
    [ -d "$window" ] || continue
    name=cma/${window##*/}
    mkdir -p "$board/$name"
    for file in base_pfn count order_per_bit bitmap used maxchunk; do
        [ -e "$window/$file" ] && copy "$window/$file" "$name/$file"
    done
    # The ranges of a window, since Linux 6.15.
    for range in "$window"/ranges/*; do
        [ -d "$range" ] || continue
        mkdir -p "$board/$name/ranges/${range##*/}"
        for file in base_pfn bitmap; do
            copy "$range/$file" "$name/ranges/${range##*/}/$file"
        done
    done
done
tar -cf - -C "$folder" board
