#!/bin/sh
# Purpose: brings what the user has changed in a work set onto another version of the package, by a three-way merge.
# When:    in a session of its own, which the package never touched, over a copy of its prepared source.
# Inputs:  $1 the new work set, a source tree; $2 what its pristine commit is called; $3 the work set as it is, which is only read.
# Output:  lines "@gentoomuch WORD VALUE".
set -eu

# shellcheck source=src/patch/git.sh
. "${0%/*}/git.sh"

mkdir -- "$1/.git"
for part in HEAD index logs objects packed-refs refs; do
    [ ! -e "$3/.git/$part" ] || cp -R --no-preserve=ownership -- "$3/.git/$part" "$1/.git/$part"
done
rm -rf -- "$1/.git/objects/info"
mkdir -p -- "$1/.git/info"
adopt_repository "$1"

# The user's work, as one commit on the pristine state that it began with.
before=$(git -C "$1" rev-parse --verify refs/gentoomuch/pristine)
head=$(git -C "$1" rev-parse --verify HEAD)
old() (
    export GIT_DIR="$new/.git" GIT_WORK_TREE="$was" GIT_INDEX_FILE="$new/.git/index.old"
    cd -- "$was"
    git "$@"
)
new=$1 was=$3
cp -- "$1/.git/index" "$1/.git/index.old"
old add -A . >/dev/null 2>&1
tree=$(old write-tree)
rm -f -- "$1/.git/index.old" "$1/.git/index"
mine=$(printf 'changes before the refresh to %s\n' "$2" | git -C "$1" commit-tree "$tree" -p "$before")

pristine=$(snapshot "$1" "$2" "$before")
git -C "$1" symbolic-ref HEAD refs/heads/work
git -C "$1" update-ref refs/heads/work "$pristine"
git -C "$1" update-ref refs/gentoomuch/pristine "$pristine"
# What it was is not lost.
git -C "$1" update-ref refs/gentoomuch/before-refresh "$head"
git -C "$1" update-ref refs/gentoomuch/changes "$mine"
printf '@gentoomuch files %s\n' "$(git -C "$1" ls-files | wc -l)"

git -C "$1" reset -q --hard
if git -C "$1" cherry-pick --no-commit --keep-redundant-commits "$mine" >/tmp/merged 2>&1; then
    printf '@gentoomuch merge clean\n'
else
    git -C "$1" diff --name-only --diff-filter=U | while read -r file; do
        printf '@gentoomuch conflict %s\n' "$file"
    done
    if git -C "$1" diff --quiet --diff-filter=U; then
        cat /tmp/merged
        exit 1
    fi
    printf '@gentoomuch merge conflicts\n'
fi
rm -f -- "$1/.git/CHERRY_PICK_HEAD" "$1/.git/MERGE_MSG" "$1/.git/AUTO_MERGE"
