#!/bin/sh
# Purpose: makes the work set of a patch: the source tree of a package, in a new git repository whose first commit is its pristine state.
# When:    in a throw-away session, after `ebuild … prepare` or `unpack`.
# Inputs:  $1 the package's build directory; $2 the work set, empty; $3 what the first commit is called; $4 the patch saved before, which
#          may be missing.
# Output:  lines "@gentoomuch WORD VALUE".
set -eu

# shellcheck source=src/build/patch/git.sh
. "${0%/*}/git.sh"

copy_source "$1" "$2"
new_repository "$2"
pristine=$(snapshot "$2" "$3")
git -C "$2" update-ref refs/heads/work "$pristine"
git -C "$2" update-ref refs/gentoomuch/pristine "$pristine"
printf '@gentoomuch files %s\n' "$(git -C "$2" ls-files | wc -l)"
apply_saved "$2" "$4"
