#!/bin/sh
# Gathers what describes the reserved memory and the CMA windows of the machine that it runs on, as a tar archive on stdout:
#
#   ssh root@board sh -s < collect.sh > board.tar
#
# `minivmm diagnose board.tar` reads the archive. The script needs a POSIX shell and the usual programs, those of busybox for example,
# and root for debugfs. It changes nothing on the machine but a folder in /tmp, which it removes.
#
# Nothing personal is in the archive. The command line has all names, and the values of those that have to do with memory; other
# values are replaced by x. Serial numbers and MAC addresses in the device tree are zeros. The log has only messages about memory, without
# the name of who built the kernel. The configuration has no options whose values are texts. Programs that used pages have their names
# in page_owner.
set -u
export LC_ALL=C
# The root of another file system, for tests.
root=${COLLECT_ROOT-}

if [ -t 1 ]; then
    echo 'collect: the output is a terminal; redirect it to a file: sh collect.sh > board.tar' >&2
    exit 2
fi
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
board=$folder/board
mkdir "$board"

# Says what is missing, on stderr and in the archive.
say() {
    echo "collect: $*" >&2
    echo "$*" >> "$board/missing"
}

# Copies the file $1 to $2 in the archive. $3 is what cannot be said without it.
copy() {
    cat "$root$1" 2> /dev/null > "$board/$2" && return
    rm -f "$board/$2"
    say "$1 cannot be read${3:+, so $3}"
}

# Blanks the values of the words in $1, a command line, but for those that have to do with memory. The length stays the same.
plain() {
    set -f
    line=
    quoted=
    ended=
    for word in $1; do
        name=
        value=
        # What follows -- is for the first program, not for the kernel.
        if [ -n "$quoted$ended" ]; then
            value=$word
        else
            [ "$word" = -- ] && ended=yes
            case $word in
                cma=* | cma_pernuma=* | numa_cma=* | hugetlb_cma=* | mem=* | memmap=* | movablecore=* | kernelcore=* | hugepages=* | \
                    hugepagesz=* | default_hugepagesz=* | transparent_hugepage=* | coherent_pool=* | swiotlb=* | vmalloc=* | \
                    highmem=* | crashkernel=* | page_owner=* | debug_pagealloc=* | iommu=* | iommu.*=* | arm-smmu.*=*) ;;
                *=*)
                    name=${word%%=*}=
                    value=${word#*=}
                    ;;
            esac
        fi
        # A value in quotation marks can have spaces.
        case $value in
            *\"*\"*) ;;
            *\"*) if [ -n "$quoted" ]; then quoted=; else quoted=yes; fi ;;
        esac
        [ -n "$value" ] && word=$name$(printf "%${#value}s" '' | tr ' ' x)
        line="$line${line:+ }$word"
    done
    set +f
    printf '%s' "$line"
}

# Bytes as octal numbers, each after a space, and back.
octal() { od -An -v -to1 | tr -s ' \n' ' ' | sed 's/ $//'; }
bytes() {
    sed 's/ /\\/g' | fold -w 4000 | while read -r part || [ -n "$part" ]; do
        # The format is the text: octal escapes.
        # shellcheck disable=SC2059
        printf "$part"
    done
}

# The flattened tree without serial numbers, addresses of network cards, and values on the command line.
tree() {
    cat "$root/sys/firmware/fdt" 2> /dev/null | octal > "$folder/octal"
    [ -s "$folder/octal" ] || return
    : > "$folder/script"
    find "$root/proc/device-tree/" -type f \( -name serial-number -o -name 'linux,serial' -o -name rpi-serial64 -o -name '*duid' \
        -o -name '*mac-address' -o -name '*bd-address' \) 2> /dev/null | while read -r file; do
        value=$(octal < "$file")
        # A value of few bytes would be found elsewhere, too.
        [ ${#value} -ge 20 ] && echo "s/$value/$(echo "$value" | sed 's/[0-7][0-7][0-7]/000/g')/g" >> "$folder/script"
    done
    arguments=$(tr -d '\0' < "$root/proc/device-tree/chosen/bootargs" 2> /dev/null)
    if [ -n "$arguments" ]; then
        blanked=$(plain "$arguments")
        before=$(printf '%s' "$arguments" | octal)
        # Spaces that follow each other became one.
        after=$(printf "%-${#arguments}s" "$blanked" | octal)
        echo "s/$before/$after/g" >> "$folder/script"
    fi
    sed -f "$folder/script" < "$folder/octal" | bytes > "$board/board.dtb"
    [ "$(wc -c < "$board/board.dtb")" -eq "$(wc -c < "$root/sys/firmware/fdt")" ]
}

# The live tree, a file for each property that has to do with memory.
properties() {
    [ -d "$root/proc/device-tree/" ] || return
    (cd "$root/proc/device-tree/" && find . -type f \( -name '#address-cells' -o -name '#size-cells' -o -name reg -o -name ranges \
        -o -name dma-ranges -o -name compatible -o -name model -o -name device_type -o -name status -o -name phandle \
        -o -name 'linux,phandle' -o -name memory-region -o -name memory-region-names -o -name reusable -o -name no-map \
        -o -name alignment -o -name alloc-ranges -o -name size -o -name 'linux,cma-default' -o -name 'linux,dma-default' \
        -o -name 'linux,usable-memory-range' -o -name iommus -o -name dma-coherent -o -name numa-node-id \)) |
        while read -r file; do
            mkdir -p "$board/device-tree/${file%/*}"
            cat "$root/proc/device-tree/$file" > "$board/device-tree/$file" 2> /dev/null
        done
    [ -d "$board/device-tree" ]
}

if ! tree; then
    rm -f "$board/board.dtb"
    if properties; then
        say '/sys/firmware/fdt cannot be read, as it needs root; the live device tree is in its place, without the order of nodes'
    else
        say 'there is no device tree, so nothing is said about its nodes'
    fi
fi
copy /proc/meminfo meminfo 'the size of RAM is unknown'
copy /proc/iomem iomem 'the place of RAM is unknown'
if [ -s "$board/iomem" ] && ! sed 's/ : .*//' "$board/iomem" | grep -q '[1-9a-f]'; then
    rm -f "$board/iomem"
    say '/proc/iomem has no addresses without root, so the place of RAM is unknown'
fi
copy /proc/buddyinfo buddyinfo
copy /proc/pagetypeinfo pagetypeinfo 'the kinds of free pages are unknown; it needs root'
copy /proc/vmstat vmstat
if cmdline=$(cat "$root/proc/cmdline" 2> /dev/null); then
    plain "$cmdline" > "$board/cmdline"
    echo >> "$board/cmdline"
else
    say '/proc/cmdline cannot be read, so cma= is unknown'
fi
sed 's/([^()]*@[^()]*)/(x)/g' "$root/proc/version" 2> /dev/null > "$board/version"
echo "$(uname -r) $(uname -m)" > "$board/uname"
size=$(getconf PAGESIZE 2> /dev/null) || size=$(sed -n 's/^KernelPageSize: *\([0-9]*\) kB$/\1/p' "$root/proc/self/smaps" 2> /dev/null |
    while read -r kib; do
        echo $((kib * 1024))
        break
    done)
if [ -n "$size" ]; then echo "$size" > "$board/page_size"; else say 'the size of a page is unknown; 4096 bytes are assumed'; fi

# The kernel's messages about memory. The journal has those that the kernel's buffer lost.
if ! dmesg > "$folder/log" 2> /dev/null || ! grep -q 'Linux version' "$folder/log"; then
    journalctl -k -b -o short-monotonic --no-hostname > "$folder/journal" 2> /dev/null && [ -s "$folder/journal" ] &&
        mv "$folder/journal" "$folder/log"
fi
grep -i -e cma -e 'reserved mem' -e 'linux version' -e 'machine model' -e 'Memory: ' -e 'oom-killer' -e 'PFNs busy' -e 'dma.*alloc' \
    -e 'available pages' -e 'free of [0-9]* total pages' -e '[0-9]@[0-9]' -e 'OVERLAP DETECTED' "$folder/log" 2> /dev/null |
    grep -v 'ommand line: ' | sed 's/([^()]*@[^()]*)/(x)/g' > "$board/dmesg"
[ -s "$board/dmesg" ] || say 'the kernel log has no messages about contiguous memory, or needs root; failed requests are unknown'

# The options whose values are no texts.
if [ -r "$root/proc/config.gz" ]; then
    zcat < "$root/proc/config.gz" 2> /dev/null
else
    cat "$root/boot/config-$(uname -r)" 2> /dev/null
fi | grep -v '"' > "$board/config"
if [ ! -s "$board/config" ]; then
    rm -f "$board/config"
    say 'there is no /proc/config.gz and no /boot/config, so the options of the kernel are unknown'
fi

cma=$root/sys/kernel/debug/cma
if [ ! -d "$cma" ]; then
    say '/sys/kernel/debug/cma is absent, so the pages in use are unknown: as root, mount -t debugfs none /sys/kernel/debug; the kernel needs CONFIG_CMA_DEBUGFS=y'
fi
for window in "$cma"/*; do
    [ -d "$window" ] || continue
    name=cma/${window##*/}
    source=/sys/kernel/debug/cma/${window##*/}
    mkdir -p "$board/$name"
    for file in base_pfn count order_per_bit bitmap used maxchunk; do
        [ -e "$window/$file" ] && copy "$source/$file" "$name/$file"
    done
    # The ranges of a window, since Linux 6.15.
    for range in "$window"/ranges/*; do
        [ -d "$range" ] || continue
        mkdir -p "$board/$name/ranges/${range##*/}"
        for file in base_pfn bitmap; do
            copy "$source/ranges/${range##*/}/$file" "$name/ranges/${range##*/}/$file"
        done
    done
done
# The owners of pages in windows, where the kernel has page_owner=on.
if [ -r "$root/sys/kernel/debug/page_owner" ]; then
    awk 'BEGIN { RS = ""; ORS = "\n\n" } /type CMA/' "$root/sys/kernel/debug/page_owner" 2> /dev/null | head -c 4194304 > "$board/page_owner"
fi

# The archive has no names of users, where tar can leave them out.
set -- --owner=0 --group=0 --numeric-owner
tar "$@" -cf /dev/null -C "$folder" board 2> /dev/null || set --
tar "$@" -cf - -C "$folder" board
