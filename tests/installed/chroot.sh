#!/bin/sh
# Installs the Debian package PACKAGE in the folder CHROOT and runs tour.sh there: chroot.sh CHROOT PACKAGE CACHE
#
# It mounts what it needs and unmounts nothing: run.sh starts it in namespaces of its own. What it changes in CHROOT is in memory.
set -eu

chroot=$1 package=$2 cache=$3
root=/mnt/root
mount -t tmpfs tmpfs /mnt
mkdir /mnt/changes /mnt/work $root
mount -t overlay -o lowerdir="$chroot",upperdir=/mnt/changes,workdir=/mnt/work overlay $root
mount -t proc proc $root/proc
mount --rbind /dev $root/dev
mount --rbind /sys $root/sys
mkdir -p $root/root/.cache/minivmm
mount --bind "$cache" $root/root/.cache/minivmm
mount -o remount,bind,ro $root/root/.cache/minivmm

cp "$package" $root/minivmm.deb
cp "$(dirname "$0")/tour.sh" $root/tour.sh
in_chroot() {
    env -i HOME=/root LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot $root "$@"
}
in_chroot dpkg --install /minivmm.deb
in_chroot timeout 600 sh /tour.sh
