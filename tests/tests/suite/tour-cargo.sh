#!/bin/bash
# `cargo` in the tour: runs programs that are already built, which are in the folder $PROGRAMS. A command that begins as a line of
# $ONLY_PARSED does, is parsed and not run. Each command is added to the file $COMMANDS, and a command that is there already is not run
# again.
set -eu

typed="cargo $*"
alias=$(sed -n "s/^$1 = \"\(.*\)\"$/\1/p" .cargo/config.toml)
if [ "$alias" ]; then
    shift
    set -- $alias "$@"
fi
# As the pages print it.
typed=${typed/#cargo run -q -p vmm -- /minivmm }
typed=${typed//$'\n'/ }
if grep -qxFe "$typed" "$COMMANDS"; then
    echo "tour: an earlier page has this command, too" >&2
    exit
fi
echo "$typed" >> "$COMMANDS"
only_parsed=
while IFS= read -r beginning; do
    case $typed in "$beginning"*) only_parsed=1 ;; esac
done <<< "$ONLY_PARSED"

verb=$1
shift
case $verb in
run) ;;
install)
    # The programs are built. The last word is the folder of a package.
    [ -f "${@: -1}/Cargo.toml" ]
    exit
    ;;
test)
    # Verify runs the tests. Here the filter, which is the last word, must choose some.
    env -u MINIVMM_TESTS "$SUITE" --list "${@: -1}" | grep -q ': test$'
    exit
    ;;
*)
    echo "tour: there is no cargo $verb in the tour" >&2
    exit 1
    ;;
esac
while [ $# -gt 0 ]; do
    word=$1
    shift
    case $word in
    -q) ;;
    -p | --bin)
        program=$1
        shift
        ;;
    --) break ;;
    *)
        echo "tour: there is no cargo run $word in the tour" >&2
        exit 1
        ;;
    esac
done
if [ "$program" = vmm ]; then program=minivmm; fi

if [ "$only_parsed" ]; then
    words=()
    for word; do
        # What follows is another program's.
        if [ "$word" = -- ]; then break; fi
        words+=("$word")
        case $word in *.toml) [ -e "$word" ] ;; esac
    done
    "$PROGRAMS/$program" "${words[@]}" --help > /dev/null
    exit
fi
exec "$PROGRAMS/$program" "$@"
