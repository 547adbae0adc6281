# minivmm and QEMU's microvm start the same kernel and initramfs by turns, each with a share, a disk, a console, a source of random
# numbers and a network; minivmm has a camera besides. For each start it prints the program, the seconds from the start of the process
# to the guest's first line, and the bytes of resident memory beyond the guest's. virtiofsd and passt are not part of either: minivmm
# starts them in its time, for QEMU they are ready before.
# Arguments: the program minivmm, the kernel, the initramfs, the number of starts.

set -e
minivmm=$1 kernel=$2 initramfs=$3 starts=$4
# The guest's first program prints the line, and then does nothing.
guest='rdinit=/bin/busybox -- sh -c "echo up; exec /bin/busybox sleep 1000"'
here=$(mktemp -d)
cd "$here"
mkdir share
truncate -s 64M disk

# The page cache of the guest's files and of the programs is as warm for the first start as for the others.
cat "$kernel" "$initramfs" "$minivmm" "$(command -v qemu-system-x86_64)" > /dev/null

# Waits until the guest of the process $2, the program $1, has printed its line into the file `log`. Prints the figures.
measure() {
    left=600
    until [ -s log ]; do
        [ "$left" -gt 0 ] && kill -0 "$2" || { cat errors >&2; exit 1; }
        left=$((left - 1))
        sleep 0.2
    done
    # What the guest does after its line is over.
    sleep 1
    awk -v program="$1" -v began="$(stat -c %.Y began)" -v printed="$(stat -c %.Y log)" '
        /^[0-9a-f]+-[0-9a-f]+ / { guests = / \/memfd:/ }
        /^Rss:/ && !guests { kib += $2 }
        END { printf "%s %.3f %d\n", program, printed - began, kib * 1024 }' "/proc/$2/smaps"
}

for start in $(seq "$starts"); do
    rm -f log began
    : > log; : > began
    "$minivmm" --memory 512M --cma 64M --share share --disk disk --net user --kernel "$kernel" --initrd "$initramfs" \
        --cmdline "quiet $guest" --console-log log > /dev/null 2> errors < /dev/null &
    process=$!
    measure minivmm $process
    kill $process
    wait $process || true

    rm -f log began
    /usr/lib/qemu/virtiofsd --socket-path=fs -o "source=$here/share" > /dev/null 2>&1 &
    virtiofsd=$!
    passt --foreground --quiet --socket net --runas 0 > /dev/null 2>&1 &
    passt=$!
    until [ -S fs ] && [ -S net ]; do sleep 0.1; done
    : > log; : > began
    qemu-system-x86_64 -M microvm,acpi=off,rtc=off,memory-backend=memory -accel kvm -cpu host -smp 1 -m 512M \
        -object memory-backend-memfd,id=memory,size=512M,share=on -nodefaults -no-user-config -display none \
        -chardev socket,id=fs,path=fs -device vhost-user-fs-device,chardev=fs,tag=share \
        -drive file=disk,if=none,id=disk,format=raw -device virtio-blk-device,drive=disk \
        -chardev null,id=console -device virtio-serial-device -device virtconsole,chardev=console \
        -device virtio-rng-device \
        -netdev stream,id=net,server=off,addr.type=unix,addr.path=net -device virtio-net-device,netdev=net \
        -serial file:log -kernel "$kernel" -initrd "$initramfs" -append "console=ttyS0 quiet $guest" 2> errors < /dev/null &
    process=$!
    measure qemu $process
    kill $process
    wait $process || true
    kill $virtiofsd $passt 2> /dev/null || true
    wait
    rm -f fs net
done
cd /
rm -r "$here"
