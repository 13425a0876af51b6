#!/bin/sh
# Purpose: tells what a binary package pool depends on: CHOST, effective compiler flags and the toolchain's versions.
# When:    in a session whose configuration is complete, before anything is built.
# Inputs:  none. Output: NAME=VALUE lines on standard output.
set -u

first_line() {
    "$@" 2>/dev/null | { IFS= read -r line && printf '%s' "$line"; }
}

# One start of Python for all that Portage is asked.
python3 -B - 2>/dev/null <<'END'
import portage

names = "CHOST CFLAGS CXXFLAGS CPPFLAGS FCFLAGS FFLAGS LDFLAGS RUSTFLAGS GOFLAGS CPU_FLAGS_X86 CPU_FLAGS_ARM CPU_FLAGS_PPC"
for name in names.split():
    print(f"{name}='{' '.join(portage.settings.get(name, '').split())}'")
print(f"VERSION_PORTAGE={portage.VERSION}")
END
printf 'VERSION_CC=%s\n' "$(first_line cc -dumpfullversion)"
# No part of the pool's key: what make is called by decides nothing about a package.
printf 'MAKE_IS=%s\n' "$(first_line make --version)"
