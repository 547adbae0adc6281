#!/bin/sh
# cargo calls this instead of rustc for the fuzz targets. In the kernels of pixels comparisons are not traced: that would take most of
# the time of a frame, and tell libFuzzer nothing.
set -eu
case " $* " in
*" --crate-name media "*)
    for argument; do
        shift
        case $argument in *-trace-compares) ;; *) set -- "$@" "$argument" ;; esac
    done
    ;;
esac
exec "$@"
