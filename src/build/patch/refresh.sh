#!/bin/sh
# Purpose: brings what the user has changed in a work set onto another version of the package, by a three-way merge.
# When:    in a throw-away session, after `ebuild … prepare` of that version.
# Inputs:  $1 the package's build directory; $2 the new work set, empty; $3 what its pristine commit is called; $4 the work set as it is,
#          which is only read.
# Output:  lines "@gentoomuch WORD VALUE".
set -eu

# shellcheck source=src/build/patch/git.sh
. "${0%/*}/git.sh"

copy_source "$1" "$2"
mkdir -- "$2/.git"
cp -R --no-preserve=ownership -- "$4/.git/." "$2/.git/"
rm -rf -- "$2/.git/hooks" "$2/.git/info"
mkdir -p -- "$2/.git/info"
adopt_repository "$2"

# The user's work, as one commit on the pristine state that it began with.
before=$(git -C "$2" rev-parse --verify refs/gentoomuch/pristine)
head=$(git -C "$2" rev-parse --verify HEAD)
old() (
    export GIT_DIR="$new/.git" GIT_WORK_TREE="$was" GIT_INDEX_FILE="$new/.git/index.old"
    cd -- "$was"
    git "$@"
)
new=$2 was=$4
cp -- "$2/.git/index" "$2/.git/index.old"
old add -A . >/dev/null 2>&1
tree=$(old write-tree)
rm -f -- "$2/.git/index.old" "$2/.git/index"
mine=$(printf 'changes before the refresh to %s\n' "$3" | git -C "$2" commit-tree "$tree" -p "$before")

pristine=$(snapshot "$2" "$3" "$before")
git -C "$2" symbolic-ref HEAD refs/heads/work
git -C "$2" update-ref refs/heads/work "$pristine"
git -C "$2" update-ref refs/gentoomuch/pristine "$pristine"
# What it was is not lost.
git -C "$2" update-ref refs/gentoomuch/before-refresh "$head"
git -C "$2" update-ref refs/gentoomuch/changes "$mine"
printf '@gentoomuch files %s\n' "$(git -C "$2" ls-files | wc -l)"

git -C "$2" reset -q --hard
if git -C "$2" cherry-pick --no-commit --keep-redundant-commits "$mine" >/tmp/merged 2>&1; then
    printf '@gentoomuch merge clean\n'
else
    git -C "$2" diff --name-only --diff-filter=U | while read -r file; do
        printf '@gentoomuch conflict %s\n' "$file"
    done
    if git -C "$2" diff --quiet --diff-filter=U; then
        cat /tmp/merged
        exit 1
    fi
    printf '@gentoomuch merge conflicts\n'
fi
rm -f -- "$2/.git/CHERRY_PICK_HEAD" "$2/.git/MERGE_MSG" "$2/.git/AUTO_MERGE"
