#!/bin/sh
# Purpose: bring /etc/profile.env and the cache of the dynamic linker up to date with what the base installed, so that the packages of
#          the stage4 are built and run against it.
# When:    stage, before the packages of a stage4.
# Inputs:  /etc/env.d, /etc/ld.so.conf, /etc/ld.so.conf.d.
set -eu

if command -v env-update >/dev/null 2>&1; then
	env-update
elif command -v ldconfig >/dev/null 2>&1; then
	ldconfig
fi
