#!/bin/sh
# Makes the Debian package of minivmm with dpkg-deb, and prints its path: deb.sh [PROGRAM [FOLDER]]
#
# Without PROGRAM, cargo builds it. FOLDER, or target/debian in the checkout, gets minivmm_VERSION_ARCHITECTURE.deb. The package has the
# program, its manual pages and completions, the script of `minivmm collect`, and the documents and examples of the checkout.
set -eu

checkout=$(cd "$(dirname "$0")/../.." && pwd)
out=$(realpath -m "${2-"$checkout/target/debian"}")
if [ $# = 0 ]; then
    cargo build --quiet --release --manifest-path "$checkout/Cargo.toml" -p vmm --bin minivmm
    set -- "${CARGO_TARGET_DIR-"$checkout/target"}/release/minivmm"
fi
program=$(realpath "$1")
cd "$checkout"
version=$("$program" --version | cut -d ' ' -f 2)
architecture=$(dpkg --print-architecture)
package=$out/minivmm_${version}_$architecture
rm -rf "$package"
mkdir -p "$package/DEBIAN"

# The program, without the symbols that only a debugger reads.
mkdir -p "$package/usr/bin"
strip --strip-unneeded -o "$package/usr/bin/minivmm" "$program"
chmod 755 "$package/usr/bin/minivmm"

"$program" man "$package/usr/share/man/man1"
gzip -9n "$package"/usr/share/man/man1/*

# Prints the completions for the shell $1 into the file $2.
completions() {
    mkdir -p "$(dirname "$package/$2")"
    "$program" completions "$1" > "$package/$2"
}
completions bash usr/share/bash-completion/completions/minivmm
completions zsh usr/share/zsh/vendor-completions/_minivmm
completions fish usr/share/fish/vendor_completions.d/minivmm.fish

mkdir -p "$package/usr/share/minivmm"
"$program" collect --print > "$package/usr/share/minivmm/collect.sh"

# Documents and examples keep their folders, so that the documents' links and commands are right.
documents=$package/usr/share/doc/minivmm
mkdir -p "$documents"
cp --parents README.md ARCHITECTURE.md CHANGELOG.md cma/lessons/* devices/src/*/[A-Z]*.md guest-images/README.md \
    guest-images/example-driver/* guest-images/driver/*.h tests/README.md tests/experiments/* vmm/src/*/[A-Z]*.md \
    vmm/src/*/*.schema.json "$documents"
cp vmm/package/copyright "$documents"

# The newest interface of the C library that the program uses.
glibc=$(objdump --dynamic-syms "$program" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort --version-sort | tail -n 1)
# minivmm installs these by itself, as root or with passwordless sudo, when it needs them.
recommended=$({ "$program" doctor --packages image; "$program" doctor --packages lab; } | tr ' ' '\n' | sort --unique)
cat > "$package/DEBIAN/control" << CONTROL
Package: minivmm
Version: $version
Architecture: $architecture
Maintainer: minivmm developers <minivmm@localhost>
Installed-Size: $(du --summarize --block-size=1K "$package" | cut -f 1)
Depends: libc6 (>= $glibc), libgcc-s1
Recommends: $(echo $recommended | sed 's/ /, /g')
Section: otherosfs
Priority: optional
Description: virtual machine monitor for contiguous DMA
 minivmm boots Linux guests that have CMA windows (reserved-memory,
 shared-dma-pool) and emulated DMA devices, such as a camera. It is a V4L2 test
 machine without hardware, and injects faults reproducibly.
CONTROL
dpkg-deb --root-owner-group --build "$package" "$package.deb" > /dev/null
echo "$package.deb"
