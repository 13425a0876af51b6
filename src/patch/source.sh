#!/bin/sh
# Purpose: says which directory of what was unpacked the source is: where patches are applied.
# When:    in the package's session, after `ebuild … prepare` or `unpack`.
# Inputs:  $1 the package's build directory.
# Output:  a line "@gentoomuch subdir DIRECTORY", relative to `work`, empty for `work` itself.
set -eu

work=$(realpath -e -- "$1/work")
# What the phases left of their variables. S may lie behind a link.
# shellcheck disable=SC2016
source=$(bash -c '. "$1" >/dev/null 2>&1; printf %s "$S"' sh "$1/temp/environment" || :)
source=$(realpath -e -- "$source" 2>/dev/null || :)
case $source in
    "$work"/*) [ -d "$source" ] || source=$work ;;
    *) source=$work ;;
esac
subdir=${source#"$work"}
printf '@gentoomuch subdir %s\n' "${subdir#/}"
