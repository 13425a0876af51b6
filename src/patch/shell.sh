#!/bin/sh
# Purpose: a shell where a package failed to build.
# When:    in the session that was kept.
# Inputs:  $1 the package's build directory; then a command, else an interactive shell.
set -eu

# shellcheck disable=SC2016
source=$(bash -c '. "$1" >/dev/null 2>&1; printf %s "$S"' sh "$1/temp/environment" 2>/dev/null || :)
[ -d "$source" ] || source=$1/work
[ -d "$source" ] || source=/
cd -- "$source"
shift
[ $# -eq 0 ] || exec "$@"
exec bash -l -i
