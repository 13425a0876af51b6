#!/bin/sh
# Purpose: what the user has changed in a work set, as a patch; the work set itself is only read.
# When:    in a throw-away session.
# Inputs:  $1 the work set; $2 where to write `patch`, `raw`, `numstat`, `ignored` and `unmerged`.
set -eu

# shellcheck source=src/patch/git.sh
. "${0%/*}/git.sh"

objects=$(mktemp -d)
export GIT_DIR="$1/.git" GIT_WORK_TREE="$1" GIT_INDEX_FILE="$objects/index"
export GIT_OBJECT_DIRECTORY="$objects/new" GIT_ALTERNATE_OBJECT_DIRECTORIES="$1/.git/objects"
mkdir -p "$GIT_OBJECT_DIRECTORY"
[ ! -f "$1/.git/index" ] || cp -- "$1/.git/index" "$GIT_INDEX_FILE"

# The work set's own configuration is the user's, and says nothing about how a patch looks.
run() {
    git -c core.fsmonitor=false -c core.hooksPath=/dev/null -c core.autocrlf=false -c core.fileMode=true -c core.protectNTFS=false \
        -c core.protectHFS=false -c core.excludesFile=/dev/null -c core.attributesFile=/dev/null -c core.untrackedCache=false \
        -c diff.algorithm=histogram -c diff.external= -c core.quotePath=true -c advice.addEmbeddedRepo=false "$@"
}

cd -- "$1"
# Files that still have the markers of a merge, among those that git was not yet told are mended.
run ls-files --unmerged -z | tr '\0' '\n' | cut -f 2 | sort -u >"$objects/unmerged"
: >"$2/unmerged"
while IFS= read -r file; do
    ! grep -q '^<<<<<<<' -- "$file" 2>/dev/null || printf '%s\n' "$file" >>"$2/unmerged"
done <"$objects/unmerged"
# Files that are ignored count once they were added by hand.
run add -A . >/dev/null 2>&1
run ls-files --others --ignored --exclude-standard --directory | head -n 1000 >"$2/ignored"
set -- "$2" --cached --no-color --no-ext-diff --no-textconv --no-renames --ignore-submodules=none refs/gentoomuch/pristine --
out=$1
shift
run diff --raw "$@" >"$out/raw"
run diff --numstat "$@" >"$out/numstat"
run diff --src-prefix=a/ --dst-prefix=b/ --unified=3 "$@" >"$out/patch"
