"""Tries, as another user of the machine, all that could be done to what gentoomuch keeps and runs for somebody.

    probe.py TOP PATHS UID...    TOP: a directory that this user can enter, with data/ and cache/ in it
                                 PATHS: a file that lists what is below, as its owner sees it
                                 UID: the ids of the owner, FIRST-LAST

Prints a line for everything that succeeded, and in the end how much was tried. Nothing may succeed.
"""

import ctypes
import errno
import os
import socket
import struct
import sys

TOP, PATHS = sys.argv[1:3]
RANGES = [tuple(int(end) for end in text.split("-")) for text in sys.argv[3:]]
tried = 0
done = []


def attempt(what, action):
    """Notes it if `action` is not refused."""
    global tried
    tried += 1
    try:
        action()
    except (PermissionError, ProcessLookupError):
        return
    except OSError as error:
        # Gone meanwhile, or not even there to be seen.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESRCH, errno.EXDEV, errno.EPERM, errno.EINVAL, errno.EISDIR, errno.ECONNREFUSED):
            return
        done.append(f"{what}: {error}")
        return
    done.append(what)


def opened(path, flags):
    os.close(os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC))


def files():
    names = [os.path.join(TOP, name) for name in ("data", "cache", "config")]
    with open(PATHS, encoding="utf-8", errors="surrogateescape") as listed:
        names += [line for line in listed.read().split("\0") if line]
    # All of a store is a hundred thousand files; every kind of place is among these.
    for path in names[:3000] + names[3000::50]:
        attempt(f"read {path}", lambda: opened(path, os.O_RDONLY))
        attempt(f"write {path}", lambda: opened(path, os.O_WRONLY))
        attempt(f"list {path}", lambda: os.listdir(path))
        attempt(f"make a file in {path}", lambda: opened(f"{path}/intruder", os.O_WRONLY | os.O_CREAT))
        attempt(f"change the mode of {path}", lambda: os.chmod(path, 0o777))
        attempt(f"link {path}", lambda: os.link(path, f"/tmp/intruder-{os.getpid()}"))
        attempt(f"execute {path}", lambda: executed(path))
    for name in names[:3]:
        attempt(f"rename {name}", lambda: os.rename(name, name + ".old"))
        attempt(f"remove {name}", lambda: os.rmdir(name))
        attempt(f"put something beside {name}", lambda: os.symlink("/tmp", name + ".new"))


def executed(path):
    if not os.access(path, os.X_OK):
        raise PermissionError(path)
    if os.path.isfile(path):
        os.spawnv(os.P_WAIT, path, [path])


def is_theirs(uid):
    return any(first <= uid <= last for first, last in RANGES)


def processes():
    libc = ctypes.CDLL(None, use_errno=True)

    def call(*arguments):
        if libc.syscall(*arguments) < 0:
            raise OSError(ctypes.get_errno(), "")

    found = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        at = f"/proc/{pid}"
        try:
            # An undumpable process's directory is root's; whose it is says the line in its status.
            status = open(f"{at}/status").read()
            uid = int(next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1])
        except (OSError, StopIteration):
            continue
        if not is_theirs(uid):
            continue
        found += 1
        for name in ("environ", "maps", "mem", "auxv", "io", "syscall", "stack", "pagemap", "smaps_rollup"):
            attempt(f"read {at}/{name}", lambda: os.read(os.open(f"{at}/{name}", os.O_RDONLY | os.O_CLOEXEC), 1))
        for name in ("root", "cwd", "fd", "map_files", "task/" + pid + "/fd", "root/root", "cwd/."):
            attempt(f"list {at}/{name}", lambda: os.listdir(f"{at}/{name}"))
        for name in ("exe", "ns/user", "ns/mnt", "ns/net"):
            attempt(f"follow {at}/{name}", lambda: opened(f"{at}/{name}", os.O_RDONLY))
        for name in ("mem", "oom_score_adj", "uid_map", "comm", "clear_refs", "coredump_filter"):
            attempt(f"write {at}/{name}", lambda: opened(f"{at}/{name}", os.O_WRONLY))
        for number in range(64):
            attempt(f"open {at}/fd/{number}", lambda: opened(f"{at}/fd/{number}", os.O_RDONLY))
        attempt(f"signal {pid}", lambda: os.kill(int(pid), 0))
        attempt(f"trace {pid}", lambda: call(101, 0x4206, int(pid), 0, 0))  # ptrace(PTRACE_SEIZE) on x86-64
        pidfd = os.pidfd_open(int(pid))
        attempt(f"take a descriptor of {pid}", lambda: call(438, pidfd, 0, 0))  # pidfd_getfd
        attempt(f"signal {pid} by a descriptor", lambda: call(424, pidfd, 0, None, 0))  # pidfd_send_signal
        attempt(f"enter the namespaces of {pid}", lambda: call(308, pidfd, 0x10000000 | 0x00020000))  # setns
        os.close(pidfd)
    return found


def sockets():
    """Abstract sockets have no modes: whoever knows the name can connect. Those that were there before are none of ours."""
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as table:
        names = {line.split(maxsplit=7)[7].rstrip("\n") for line in table if len(line.split(maxsplit=7)) == 8}
    before = set(os.environ.get("SOCKETS_BEFORE", "").split("\n"))
    for name in names - before:
        address = "\0" + name[1:] if name.startswith("@") else name
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
            with socket.socket(socket.AF_UNIX, kind) as end:
                attempt(f"connect to {name}", lambda: end.connect(address))


def shared_memory():
    for entry in os.scandir("/dev/shm"):
        if is_theirs(entry.stat(follow_symlinks=False).st_uid):
            attempt(f"read {entry.path}", lambda: opened(entry.path, os.O_RDONLY))
    with open("/proc/sysvipc/shm") as table:
        for line in table.readlines()[1:]:
            words = line.split()
            if is_theirs(int(words[7])) and int(words[2], 8) & 0o007:
                done.append(f"attach the shared memory {words[1]}")
    for directory in ("/tmp", "/var/tmp", "/run"):
        for entry in os.scandir(directory):
            if entry.path != os.path.dirname(TOP) and is_theirs(entry.stat(follow_symlinks=False).st_uid) and "gentoomuch" in entry.name and entry.path != TOP:
                attempt(f"read {entry.path}", lambda: opened(entry.path, os.O_RDONLY))
                attempt(f"write {entry.path}", lambda: opened(entry.path, os.O_WRONLY))


files()
found = processes()
sockets()
shared_memory()
for line in done:
    print(f"another user could {line}")
print(f"tried {tried} things, on {found} processes")
# Without anything to try, nothing would be proven.
sys.exit(1 if done or tried < 1000 or (found < 3 and "--idle" not in os.environ.get("PROBE", "")) else 0)
