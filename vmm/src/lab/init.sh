#!/bin/busybox sh
# The lab's init: makes a writable copy of the host's root, runs one command in it, tells how it ended.
# Up to "ready" all labs are alike, and the state there is saved: the next lab continues from it (see state.rs).
# The port "script" then says what to run and with what; see script.rs.

/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

# One line on the control port, and nothing more happens: the host ends the machine.
tell() {
    echo "$*" >&3
    while :; do sleep 1000; done
}

# Links the device of each port to its name in /ports, until there is the last, "control". They appear some time after their driver was
# loaded.
find_ports() {
    mkdir -p /ports
    while [ ! -c /ports/control ]; do
        for folder in /sys/class/virtio-ports/*; do
            { read -r name <"$folder/name"; } 2>/dev/null && [ -c "/dev/${folder##*/}" ] &&
                ln -sf "/dev/${folder##*/}" "/ports/$name"
        done
        usleep 10000
    done
}

load() {
    for module in "$@"; do
        insmod "$module" || echo "lab: cannot load $module"
    done
}
load /modules/*.ko*
load /modules/network/*
find_ports
exec 3<>/ports/control

# KVM keeps the TSC's frequency as it was known when kvm was loaded (max_tsc_khz); a second later the kernel has measured
# it better. set_tsc_khz (arch/x86/kvm/x86.c) refuses a vCPU more than 250 ppm slower than the TSC and leaves its scaling ratio at
# 0. KVM then reads its TSC as 0, and each of its timers is late by the whole TSC.
tolerance=/sys/module/kvm/parameters/tsc_tolerance_ppm
[ -e $tolerance ] && echo 100000 >$tolerance

echo ready >&3
cat /ports/script >/lab/run
. /lab/run
if [ "$saved" ]; then
    # The clock and the random numbers of a state are those of its saving. Only a reseed makes the kernel use what is written to
    # urandom; one comes with each resumption (random_pm_notification, drivers/char/random.c), also with one that only freezes tasks.
    date -s "@$now" >/dev/null
    echo "$seed" >/dev/urandom
    echo 0 >/sys/module/suspend/parameters/pm_test_delay
    echo freezer >/sys/power/pm_test
    echo freeze >/sys/power/state
fi

options=trans=virtio,version=9p2000.L,msize=512000
mkdir -p /lower /upper /new
mount -t 9p -o $options,ro,cache=loose root /lower || tell "failed cannot mount the host's root"
mount -t tmpfs -o size=90%,huge=within_size upper /upper
mkdir /upper/data /upper/work
lower=/lower
# Programs of the host's that do not run here are hidden: by Debian's for this machine, else by busybox's.
if [ "$userland" ]; then
    mkdir -p /userland /applets/usr/bin
    mount -t 9p -o $options,ro,cache=loose userland /userland || tell "failed cannot mount the programs"
    busybox --install -s /applets/usr/bin
    lower=/userland:/applets:/lower
fi
mount -t overlay -o lowerdir=$lower,upperdir=/upper/data,workdir=/upper/work root /new ||
    tell "failed cannot mount an overlay above the host's root"

ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup /sys/fs/cgroup
mkdir /sys/fs/cgroup/lab
for folder in dev proc sys; do
    mount --rbind /$folder /new/$folder || tell "failed cannot mount /$folder"
done
mount -t tmpfs run /new/run

# Mounts the share $1, which the host may look at meanwhile, at the path $2.
share() {
    mkdir -p "/new$2" && mount -t 9p -o $options,cache=mmap "$1" "/new$2" || tell "failed cannot mount $2"
}
shares

# Memory of guests comes from memfd: with huge pages a guest touches it eight times as fast here, where each page
# costs an emulated fault.
echo always >/sys/kernel/mm/transparent_hugepage/shmem_enabled
hostname lab
ifconfig lo 127.0.0.1
# The emulator's network, which leads to that of the host's user (its options are in qemu.rs).
if [ "$network" ]; then
    ifconfig eth0 10.0.3.15 netmask 255.255.255.0
    route add default gw 10.0.3.2
    # Connections to ports of the host's 127.0.0.1 come for 127.0.0.1 here.
    echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet
    # Every user may send ping, as where systemd is.
    echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range
    rm -f /new/etc/resolv.conf
    echo "nameserver 10.0.3.3" >/new/etc/resolv.conf
fi

# A process in a chroot may not make user namespaces, which some programs use to confine themselves: the command's root is that of a
# mount namespace.
cat >/lab/enter <<'END'
cd /new && mount --move . / && exec chroot . "$@"
END

# Each output ends with the host's mark, so that the host knows when it has all of it.
if [ "$terminal" ]; then
    tty=/dev/hvc0
    while [ ! -c $tty ]; do usleep 10000; done
    # A terminal that nobody has open forgets its size.
    exec 4<>$tty
    # $terminal is its size; the host tells when it changes.
    resize() { stty rows "$1" cols "$2" <$tty; }
    resize $terminal
    in=$tty out=$tty leader='setsid -c'
    end() { printf %s "$mark" >$tty; }
else
    mkfifo /lab/in /lab/out
    in=/lab/in out=/lab/out leader=
    cat /ports/stdin >$in &
    { cat $out; printf %s "$mark"; } >/ports/stdout &
    outputs=$!
    end() { :; }
fi
if [ "$errors" ]; then
    mkfifo /lab/err
    err=/lab/err
    { cat $err; printf %s "$mark"; } >/ports/stderr &
    outputs="$outputs $!"
else
    err=$tty
fi

# What the host tells while the command runs.
while read -r verb rest; do
    case $verb in
    size) resize $rest ;;
    signal) kill -s "$rest" "$(cat /lab/pid)" ;;
    esac
done <&3 &

(
    echo 0 >/sys/fs/cgroup/lab/cgroup.procs
    # The command keeps the number of this shell.
    read -r number rest </proc/self/stat
    echo "$number" >/lab/pid
    echo started >&3
    exec 3>&- 4>&-
    command
) <$in >$out 2>$err
status=$?

# What the command left running must not hold its output open.
echo 1 >/sys/fs/cgroup/lab/cgroup.kill
[ "$outputs" ] && wait $outputs
end
sync
tell "exit $status"
