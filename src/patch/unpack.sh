#!/bin/sh
# Purpose: makes a work set's git repository, whose first commit is the pristine state of the source.
# When:    in a session of its own, which the package never touched, over a copy of its prepared source.
# Inputs:  $1 the work set, a source tree; $2 what the first commit is called; $3 the patch saved before, which may be missing.
# Output:  lines "@gentoomuch WORD VALUE".
set -eu

# shellcheck source=src/patch/git.sh
. "${0%/*}/git.sh"

new_repository "$1"
pristine=$(snapshot "$1" "$2")
git -C "$1" update-ref refs/heads/work "$pristine"
git -C "$1" update-ref refs/gentoomuch/pristine "$pristine"
printf '@gentoomuch files %s\n' "$(git -C "$1" ls-files | wc -l)"
apply_saved "$1" "$3"
