#!/bin/sh
# The tour of an installed minivmm, in an empty folder: each command of the README and of `minivmm --help` that a user runs first.
set -eux

mkdir /root/empty
cd /root/empty
documents=/usr/share/doc/minivmm

# Runs a command, which must end with the exit status $1.
ends() {
    expected=$1 status=0
    shift
    "$@" || status=$?
    [ $status = $expected ]
}

# The help, the manual pages without a warning, and the completions.
minivmm --help | grep '^Exit status'
for page in /usr/share/man/man1/minivmm*.gz; do
    MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>> warnings > /dev/null
done
cat warnings
[ ! -s warnings ]
man minivmm > page
for heading in OPTIONS SUBCOMMANDS EXAMPLES 'EXIT STATUS' ENVIRONMENT FILES; do
    grep "^$heading" page
done
man minivmm-image-build | grep -e --update
bash -n /usr/share/bash-completion/completions/minivmm
bash -c '. /usr/share/bash-completion/completions/minivmm
    COMP_WORDS=(minivmm mod) COMP_CWORD=1
    _minivmm minivmm mod minivmm
    [ "${COMPREPLY[*]}" = model ]'
minivmm collect --print | cmp - /usr/share/minivmm/collect.sh

# The host: on one that is not fit, the lab is.
minivmm doctor > doctor || grep 'boots one in the lab' doctor
grep '^ok .*the default guest image is /root/.cache/minivmm/guest/' doctor
minivmm image list | grep '^default .* MiB '
ends 2 env MINIVMM_CACHE=/root/empty/cache minivmm --cma 256M 2> error
grep 'build it with `minivmm image build default`' error

# Commands without a guest.
minivmm model --frames 1080p:NV12 --window 64M
minivmm model $documents/cma/lessons/free-and-still-fails.cma
minivmm dtb --cma 256M | grep shared-dma-pool
minivmm dtb --cma 256M --out guest.dtb
minivmm check guest.dtb
minivmm check --cma 256M
minivmm experiment list $documents/tests/experiments/torn.toml

# A guest: its output, its exit status, its files. Its device tree and its window are examined here.
ends 7 minivmm --cma 256M --timeout 5m --out out --report report.json \
    --exec 'grep CmaTotal /proc/meminfo; sh > /out/board.tar; exit 7' < /usr/share/minivmm/collect.sh > output
cat output
grep -x 'CmaTotal: *262144 kB' output
grep '"status": *7' report.json
tar -xf out/board.tar
minivmm check board/board.dtb
minivmm model --import board/cma/* --request 1000
minivmm diagnose out/board.tar | grep 'no request failed'
grep 'cma' board/dmesg
