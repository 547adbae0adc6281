#!/bin/sh
# Tests the Debian package as a user has it: installs it in a Debian 12 chroot, and runs tour.sh there, without the checkout.
#
#   tests/installed/run.sh [PROGRAM [CACHE]]
#
# The package has PROGRAM, a minivmm. The chroot sees CACHE, the cache folder, read-only. The guest image and the lab are those of this
# machine: `minivmm image build` and the first guest in the lab make them. The chroot itself is kept in CACHE, too. All mounts and
# processes are in namespaces that end with this script, whatever ends it. It needs mmdebstrap, and root or passwordless sudo.
set -eu

folder=$(cd "$(dirname "$0")" && pwd)
program=$(realpath "${1-"$folder/../../target/debug/minivmm"}")
cache=$(realpath "${2-"$HOME/.cache/minivmm"}")

if [ "$(id -u)" != 0 ]; then
    exec sudo -n "$0" "$program" "$cache"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs a command in namespaces, which end with this script: unshare(1) ignores SIGINT and SIGTERM.
namespaces() {
    setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child "$@" &
    wait $!
}

# The chroot is made once for each list of packages: those of the lab, and man.
packages=$("$program" doctor --packages lab | tr ' ' ,),man-db
options="--mode=root --variant=essential --include=$packages --dpkgopt=force-unsafe-io"
chroots=$cache/chroots
chroot=$chroots/$(echo "$options" | sha256sum | cut -c -16)
mkdir -p "$chroots"
exec 9> "$chroots/lock"
flock 9
if [ ! -d "$chroot" ]; then
    rm -rf "$chroot.partial"
    # The options are words without spaces.
    namespaces --mount-proc mmdebstrap --quiet $options bookworm "$chroot.partial" http://deb.debian.org/debian
    mv "$chroot.partial" "$chroot"
fi
exec 9>&-

# It is packed quickly here, not tightly.
package=$(DPKG_DEB_COMPRESSOR_TYPE=none "$folder/../../vmm/package/deb.sh" "$program" "$work")
checkout=$(realpath "$folder/../..")
if grep --quiet --fixed-strings "$checkout" "${package%.deb}/usr/bin/minivmm"; then
    echo "installed: minivmm has the path $checkout in it, and must run without the checkout" >&2
    exit 1
fi
namespaces sh "$folder/chroot.sh" "$chroot" "$package" "$cache"
