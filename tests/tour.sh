#!/bin/bash
# Runs the commands that pages print in blocks of `sh`, as a reader pastes them in a checkout, one page after another:
#
#   tests/tour.sh README.md devices/src/camera/YOUR-DRIVER.md
#
# It ends at the first command that fails. After a comment with the words `exits with N`, the next command must exit with N.
set -uE
cd "$(dirname "$0")/.."

# The pages use the alias of the README.
shopt -s expand_aliases
eval "$(grep '^alias minivmm=' README.md)"

# A reader ends a guest that has a shell. A guest that still boots may lose what is typed, so it is typed again and again.
exec < <(while sleep 2 && echo poweroff; do :; done)

page=
expected=0
# A command ended with a status other than 0.
ended() {
    if [ "$1" != "$expected" ]; then
        echo "$page: this command exited with $1 instead of $expected: $2" >&2
        exit 1
    fi
    expected=0
}
trap 'ended $? "$BASH_COMMAND"' ERR

commands=$(mktemp)
trap 'rm -f "$commands"' EXIT
for page; do
    sed -n '/^```sh$/,/^```$/p' "$page" |
        sed '/^```/d; s/^#.* exits with \([0-9]*\).*/expected=\1/' > "$commands"
    # The status of a sourced file is that of its last command, which was judged already.
    echo true >> "$commands"
    set -v
    . "$commands"
    set +v
    if [ "$expected" != 0 ]; then
        echo "$page: no command exited with $expected" >&2
        exit 1
    fi
done
