#!/bin/sh
# Purpose: puts the merged configuration into /etc/portage, and sets the link to the Portage profile.
# When:    first, in a session that applies a stage3 definition.
# Inputs:  $1 where the merged configuration is; $2 the target of the link, or nothing for the one that is there; then pairs of a directory
#          that it brings and the name under which a plain file that is there instead moves into it.
set -eu

merged=$1
link=$2
shift 2
while [ $# -ge 2 ]; do
    place=/etc/portage/$1
    if [ -f "$place" ] && [ ! -L "$place" ]; then
        mv -- "$place" "$place.gentoomuch"
        mkdir -- "$place"
        mv -- "$place.gentoomuch" "$place/$2"
    fi
    shift 2
done
mkdir -p /etc/portage
cp -R --no-preserve=ownership -- "$merged/." /etc/portage/
# Packages are built by another user, who reads patches and env files here; a directory that was there has modes of its own.
cd -- "$merged"
find . -type d -exec sh -c 'for dir; do chmod go+rx -- "/etc/portage/$dir"; done' sh {} +
# `-n`: the old link leads to a directory, and `ln` would make the new one in there.
[ -z "$link" ] || ln -sfn -- "$link" /etc/portage/make.profile
