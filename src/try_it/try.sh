#!/bin/sh
# Purpose: puts the settings of an experiment into /etc/portage, after all others.
# When:    first, in a throw-away session.
# Inputs:  $1 where they are: package.use, package.accept_keywords, package.env, env/; each may be missing.
set -eu

for name in package.use package.accept_keywords package.env; do
    [ -f "$1/$name" ] || continue
    place=/etc/portage/$name
    if [ -d "$place" ]; then
        cp -- "$1/$name" "$place/zzz-gentoomuch-try"
    else
        cat -- "$1/$name" >>"$place"
    fi
done
if [ -d "$1/env" ]; then
    mkdir -p /etc/portage/env
    cp -- "$1"/env/* /etc/portage/env/
fi
