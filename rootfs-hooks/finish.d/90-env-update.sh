#!/bin/sh
# Purpose: leave /etc/profile.env and the cache of the dynamic linker as the programs of this root need them, whatever the scripts of
#          the definition added last.
# When:    finish, before the commit.
# Inputs:  /etc/env.d, /etc/ld.so.conf, /etc/ld.so.conf.d.
set -eu

if command -v env-update >/dev/null 2>&1; then
	env-update
elif command -v ldconfig >/dev/null 2>&1; then
	ldconfig
fi
