#!/bin/sh
# A newcomer's first hour on a Debian 12 machine that has only Rust, git, gcc and libc6-dev: a clone, then the commands of README.md
# as printed, with `cargo demo` and `cargo verify` first, then a driver of one's own. Run it in an empty folder, as root or with
# passwordless sudo:
#
#   sh fresh-machine.sh REPOSITORY      # an address or a folder for `git clone`
#
# Nothing is replaced or left out, so it takes about an hour on two CPUs. `cargo verify` runs the same commands with programs that it has
# built, and leaves out those that repeat other tests: see tests/suite/tour.rs.
set -eu
git clone "${1:?name the repository to clone}" minivmm
exec minivmm/tests/tour.sh README.md devices/src/camera/YOUR-DRIVER.md
