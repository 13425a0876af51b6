"""What FETCHCOMMAND runs in a session: asks gentoomuch, outside, for one file.

    fetch source DISTDIR FILE URI DIGESTS      a source archive, by name and digests; FILE is NAME.__download__
    fetch package DIR FILE URI                 a package, or the index, of a host that binrepos.conf names

    -> {"kind": "source", "file": "NAME", "digests": "blake2b:... sha512:...", "uri": "..."}     one line each way
    <- {"ok": "NAME"}     below distfiles: DISTDIR/FILE becomes a link to it
    <- {"ok": "NAME", "copy": true}     below packages, which Portage moves and dates: a copy
    <- {"no": "words"}
"""

import json
import os
import shutil
import socket
import sys

HERE = "/run/gentoomuch/fetch"
PLACES = {"source": "/run/gentoomuch/distfiles", "package": "/run/gentoomuch/packages"}
# Longer answers are nobody's.
LIMIT_BYTES = 64 * 1024


def ask(question):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(HERE + "/socket")
        connection.sendall(json.dumps(question).encode() + b"\n")
        with connection.makefile("rb") as answers:
            line = answers.readline(LIMIT_BYTES)
    return json.loads(line)


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
    # Portage asks for it with every file, of the one mirror that it is told of.
    if kind == "source" and name.removesuffix(".__download__").startswith(".layout.conf."):
        put("[structure]\n0=flat\n", target)
        return 0
    question = {"kind": kind, "file": name.removesuffix(".__download__"), "digests": digests, "uri": uri}
    answer = ask(question)
    if "ok" not in answer:
        print(answer.get("no", "no answer"), file=sys.stderr)
        if answer.get("empty"):
            # An index that is not there: a failure would end Portage 3.0.83 with a traceback, an empty one is passed over.
            put("", target)
            return 0
        return 1
    source = os.path.join(PLACES[kind], answer["ok"])
    remove(target)
    if answer.get("copy"):
        shutil.copyfile(source, target)
    else:
        os.symlink(source, target)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        print(f"gentoomuch cannot be asked for this file: {error}", file=sys.stderr)
        sys.exit(1)
