"""What FETCHCOMMAND runs in a session: asks gentoomuch, outside, for one file.

    fetch source DISTDIR FILE URI DIGESTS      a source archive, by name and digests; FILE is NAME.__download__
    fetch package DIR FILE URI                 a package, or the index, of a host that binrepos.conf names

    -> source NUL name NUL digests NUL uri newline
    <- ok NAME         below distfiles: DISTDIR/FILE becomes a link to it
       copy NAME       below packages, which Portage moves and dates
       empty WORDS     an index that is not there
       no WORDS

It is started for each file, so it imports little: what `socket` and `json` bring takes longer than all the rest.
"""

import os
import sys

try:
    from _socket import AF_UNIX, SOCK_STREAM, socket
except ImportError:
    from socket import AF_UNIX, SOCK_STREAM, socket

SOCKET = "/run/gentoomuch/fetch/socket"
PLACES = {"source": "/run/gentoomuch/distfiles", "package": "/run/gentoomuch/packages"}


def ask(*fields):
    connection = socket(AF_UNIX, SOCK_STREAM)
    connection.connect(SOCKET)
    connection.sendall("\0".join(fields).encode() + b"\n")
    answer = b""
    while part := connection.recv(4096):
        answer += part
    connection.close()
    verdict, _, words = answer.decode().rstrip("\n").partition(" ")
    return verdict, words


def remove(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def put(text, target):
    remove(target)
    with open(target, "x", encoding="utf-8") as file:
        file.write(text)


def main(kind, directory, name, uri, digests=""):
    target = os.path.join(directory, name)
    name = name.removesuffix(".__download__")
    # Portage asks for it with every file, of the one mirror that it is told of.
    if kind == "source" and name.startswith(".layout.conf."):
        put("[structure]\n0=flat\n", target)
        return 0
    verdict, words = ask(kind, name, digests, uri)
    if verdict == "ok":
        remove(target)
        os.symlink(os.path.join(PLACES[kind], words), target)
        return 0
    if verdict == "copy":
        import shutil

        remove(target)
        shutil.copyfile(os.path.join(PLACES[kind], words), target)
        return 0
    print(words or "gentoomuch gives no answer", file=sys.stderr)
    if verdict == "empty":
        # A failure would end Portage 3.0.83 with a traceback here; an empty index is passed over.
        put("", target)
        return 0
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        print(f"gentoomuch cannot be asked for this file: {error}", file=sys.stderr)
        sys.exit(1)
