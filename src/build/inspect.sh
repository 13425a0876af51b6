#!/bin/sh
# Purpose: tells what a binary package pool depends on: CHOST, effective compiler flags and the toolchain's versions.
# When:    in a session whose configuration is complete, before anything is built.
# Inputs:  none. Output: NAME=VALUE lines on standard output.
set -u

first_line() {
    "$@" 2>/dev/null | { IFS= read -r line && printf '%s' "$line"; }
}

portageq envvar -v CHOST CFLAGS CXXFLAGS CPPFLAGS FCFLAGS FFLAGS LDFLAGS RUSTFLAGS GOFLAGS 2>/dev/null
portageq envvar -v CPU_FLAGS_X86 CPU_FLAGS_ARM CPU_FLAGS_PPC 2>/dev/null
printf 'VERSION_PORTAGE=%s\n' "$(python3 -c 'import portage; print(portage.VERSION)' 2>/dev/null)"
printf 'VERSION_CC=%s\n' "$(first_line cc -dumpfullversion)"
# No part of the pool's key: what make is called by decides nothing about a package.
printf 'MAKE_IS=%s\n' "$(first_line make --version)"
