# Purpose: tells what a root builds with: Portage's version, compiler flags, and what a script beside the hooks finds out.
# When:    asked where the configuration is in place, before anything is built.
# Answers: NAME=VALUE lines.

import os
import re
import subprocess

import portage

NAMES = "CHOST CFLAGS CXXFLAGS CPPFLAGS FCFLAGS FFLAGS LDFLAGS RUSTFLAGS GOFLAGS CPU_FLAGS_X86 CPU_FLAGS_ARM CPU_FLAGS_PPC"


def libc():
    """Name and version of the installed libc. A root that no package has made says at least which glibc it runs."""
    try:
        found = sorted(f"sys-libs/{name}" for name in os.listdir("/var/db/pkg/sys-libs") if re.match(r"(glibc|musl)-\d", name))
    except FileNotFoundError:
        found = []
    try:
        return " ".join(found) or os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        return ""


def ask_toolset(script, ccache):
    """`ccache`: also what the script says of it."""
    lines = [f"{name}='{' '.join(portage.settings.get(name, '').split())}'" for name in NAMES.split()]
    lines.append(f"VERSION_PORTAGE={portage.VERSION}")
    lines.append(f"LIBC={libc()}")
    command = ["/bin/sh", script, *(["ccache"] if ccache else [])]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
    return "\n".join(lines) + "\n" + ran.stdout.decode("utf-8", "surrogateescape")[:60000]


ANSWERS = {"toolset": ask_toolset}
