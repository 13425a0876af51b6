"""Tries what a package must not do. Prints one line for each attempt that came to anything, so that nothing is what is hoped for.

Each is named after the hole in another program that it was. The last line says how many were tried: a list that was cut short is none.
"""

import ctypes
import fcntl
import os
import socket
import stat
import sys

libc = ctypes.CDLL(None, use_errno=True)
phase = sys.argv[1]
tried = 0


def attempt(name):
    """Runs the function at once. It returns what it could do, or nothing."""

    def run(function):
        global tried
        tried += 1
        try:
            done = function()
        except OSError:
            done = None
        if done:
            print(f"{phase}: {name}: {done}")

    return run


def call(function, *arguments):
    """A function of the C library: true if it did not fail."""
    return getattr(libc, function)(*arguments) != -1


def in_child(function):
    """What `function` returns in a process of its own, which may be spoilt afterwards."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(function() or "").encode())
        except OSError:
            pass
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def writable(path):
    """Whether an existing file can be opened for writing."""
    os.close(os.open(path, os.O_WRONLY))
    return path


def first(function, values):
    for value in values:
        try:
            if function(value):
                return value
        except OSError:
            pass
    return None


processes = [name for name in os.listdir("/proc") if name.isdigit()]
# In a PID namespace that Portage makes, process 1 is Portage's.
with open("/proc/1/cmdline") as file:
    first_is_ours = "gentoomuch" in file.read()


@attempt("CVE-2019-5736: wrote to a program that is running")
def _():
    def ours(pid):
        exe = os.readlink(f"/proc/{pid}/exe")
        return "memfd" in exe or "gentoomuch" in exe

    return first(lambda pid: ours(pid) and writable(f"/proc/{pid}/exe"), processes)


@attempt("CVE-2019-5736: read PID 1")
def _():
    return first_is_ours and first(lambda name: os.open(f"/proc/1/{name}", os.O_RDONLY), ["exe", "maps", "mem", "environ", "fd/0"])


@attempt("CVE-2024-21626: found a descriptor of a directory")
def _():
    def is_foreign(link):
        # Held while it is looked at: its owner may close or remove it meanwhile.
        held = os.open(link, os.O_PATH | os.O_DIRECTORY)
        try:
            return os.fstat(held).st_nlink > 0 and not os.path.exists(os.path.realpath(f"/proc/self/fd/{held}"))
        finally:
            os.close(held)

    links = [f"/proc/{pid}/fd/{fd}" for pid in processes for fd in range(64)] + [f"/proc/{pid}/cwd" for pid in processes]
    return first(is_foreign, links)


@attempt("CVE-2024-21626: left the root by the directory of PID 1")
def _():
    return first_is_ours and first(os.listdir, ["/proc/1/cwd", "/proc/1/root"])


@attempt("CVE-2021-30465, CVE-2024-9675: took a mount away, or made it writable")
def _():
    def spoil():
        for line in open("/proc/self/mountinfo"):
            fields = line.split()
            point, read_only = fields[4], "ro" in fields[5].split(",")
            remount = 4096 | 32  # MS_BIND, MS_REMOUNT
            if read_only and call("mount", b"none", point.encode(), None, remount, None):
                return f"{point} is writable"
        return None

    return in_child(spoil)


@attempt("CVE-2025-31133, CVE-2025-52565, CVE-2025-52881: wrote a setting of the kernel")
def _():
    names = [
        "kernel/core_pattern",
        "kernel/modprobe",
        "kernel/hotplug",
        "kernel/sysrq",
        "user/max_user_namespaces",
        "vm/overcommit_memory",
        "fs/binfmt_misc/register",
        "fs/protected_symlinks",
    ]
    return first(writable, [f"/proc/sys/{name}" for name in names] + ["/proc/sysrq-trigger", "/proc/kcore", "/sys/kernel/uevent_helper"])


def of_this_session(terminal):
    """Portage runs phases on a terminal of its own, which it makes in the session."""
    device = int.from_bytes(fcntl.ioctl(terminal, 0x80045432, bytes(4)), sys.byteorder)  # TIOCGDEV
    return any(os.stat(f"/dev/pts/{name}").st_rdev == device for name in os.listdir("/dev/pts"))


@attempt("CVE-2025-52565: has a console")
def _():
    def foreign(name):
        fd = os.open(name, os.O_RDWR)
        return name != "/dev/tty" or not of_this_session(fd)

    return first(foreign, ["/dev/console", "/dev/tty", "/dev/tty0", "/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda"])


@attempt("CVE-2017-5226: typed into a terminal")
def _():
    return in_child(lambda: first(lambda fd: libc.ioctl(fd, ctypes.c_ulong(0x5412), b"x") == 0, range(64)))


def abstract_names():
    """Of all abstract sockets in this network namespace; this package makes none."""
    with open("/proc/net/unix") as table:
        words = [line.split() for line in table]
    return sorted({fields[7][1:] for fields in words if len(fields) > 7 and fields[7].startswith("@")})


@attempt("CVE-2020-15257: reached an abstract socket of the host")
def _():
    def connect(name):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.connect("\0" + name)
        return True

    return first(connect, abstract_names())


@attempt("CVE-2024-27297: passed a descriptor on")
def _():
    def pass_on(name):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
            socket.send_fds(datagrams, [b"x"], [os.open("/", os.O_RDONLY)], 0, "\0" + name)
        return True

    return first(pass_on, abstract_names())


@attempt("has a socket that no build needs")
def _():
    def make(kind):
        family, protocol = kind
        socket.socket(family, socket.SOCK_RAW if family == 16 else socket.SOCK_STREAM, protocol).close()
        return True

    return first(make, [(40, 0), (16, 12), (16, 16), (38, 0), (17, 0)])


@attempt("has a further user namespace")
def _():
    return in_child(lambda: call("unshare", 0x10000000) and "unshare")


@attempt("has a cgroup namespace")
def _():
    return in_child(lambda: call("unshare", 0x02000000) and "unshare")


@attempt("made a device")
def _():
    path = "/var/tmp/device"
    os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(8, 0))
    return path


@attempt("gained capabilities by a set-id program")
def _():
    return "NoNewPrivs:\t1" not in open("/proc/self/status").read() and "no_new_privs is not set"


@attempt("has a capability that is not documented")
def _():
    lines = dict(line.split(":\t") for line in open("/proc/self/status") if ":\t" in line)
    beyond = int(lines["CapBnd"], 16) & ~0x802C15FF
    return beyond and hex(beyond)


@attempt("used the keyrings of the user")
def _():
    return libc.syscall(250, 0, -3, 0) != -1 and "keyctl" if os.uname().machine == "x86_64" else None


@attempt("ended or traced a process outside")
def _():
    ways = {"signal": lambda: call("kill", 1, 0), "ptrace": lambda: call("ptrace", 16, 1, None, None)}
    return first_is_ours and first(lambda way: in_child(ways[way]), ways)


@attempt("wrote to what is shared with other sessions")
def _():
    places = [line.split()[4] for line in open("/proc/self/mountinfo")]
    trees = [place for place in places if place.startswith("/var/db/repos")] + ["/run/gentoomuch/hooks", "/run/gentoomuch/portage"]

    def write(place):
        os.close(os.open(place + "/hostile", os.O_WRONLY | os.O_CREAT))
        return True

    return first(write, trees)


@attempt("saw a file of the host")
def _():
    # The host's homes; a stage3 has none.
    return first(lambda path: os.path.isdir(path) and os.listdir(path), ["/home", "/srv", "/mnt"])


@attempt("found something of the user's in the environment")
def _():
    return first(lambda name: name in os.environ, ["SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "GNUPGHOME", "SUDO_USER"])


print(f"{phase}: tried {tried}")
