# Purpose: runs emerge while packages are compiled in memory; what is left of those that failed is put on the disk.
# When:    around each emerge of a session with `env/tmpfs` that compiles something.
# Inputs:  where packages are compiled, in memory; the same on the disk; emerge and its arguments.
# Exit:    emerge's own, or 28 (ENOSPC) if it failed and the memory is full.
#
# It runs in the session, with the session's privileges: whatever a package does to it, the package could do without.

import errno
import os
import shutil
import signal
import subprocess
import sys

INTERRUPTED = 130
# Full: less than one part in this many is left. A linker removes what it could not finish, so that is no exact sign.
FULL = 32

memory, disk, *command = sys.argv[1:]


def is_full():
    found = os.statvfs(memory)
    return found.f_bavail * FULL < found.f_blocks or found.f_favail * FULL < found.f_files


def directories(place):
    with os.scandir(place) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return [name for name in sorted(names) if not os.path.ismount(os.path.join(place, name))]


def keep(category):
    below, to = os.path.join(memory, category), os.path.join(disk, category)
    packages = directories(below)
    if packages:
        os.makedirs(to, exist_ok=True)
        found = os.stat(below)
        os.chown(to, found.st_uid, found.st_gid)
        os.chmod(to, found.st_mode & 0o7777)
    for package in packages:
        target = os.path.join(to, package)
        # An earlier build may have failed, too.
        shutil.rmtree(target, ignore_errors=True)
        copied = subprocess.run(["cp", "-a", "--", os.path.join(below, package), target], capture_output=True)
        if copied.returncode != 0:
            print(f"not all of {target} is kept: {copied.stderr[:200].decode(errors='replace')}", file=sys.stderr)


# Ctrl-C is for emerge, which ends in order.
signal.signal(signal.SIGINT, lambda *_: None)
code = subprocess.call(command)
if code < 0:
    code = 128 - code
if code in (0, INTERRUPTED):
    sys.exit(code)
if is_full():
    sys.exit(errno.ENOSPC)
try:
    for category in directories(memory):
        keep(category)
except OSError as error:
    print(f"what is left of the package is not kept: {error}", file=sys.stderr)
sys.exit(code)
