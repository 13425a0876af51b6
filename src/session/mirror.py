# Purpose: makes a directory the same as another one: names, contents, links, owners, modes and times.
# When:    around each run of emerge, whose packages may write to /etc/portage: to a copy before it, from the copy after it.
# Inputs:  argv[1] the directory to copy, argv[2] the one that becomes the same, then paths in it that are left alone in both; after `--` a
#          command to become.

import filecmp
import os
import shutil
import stat
import sys

COPIED = (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR)


def kind_of(path):
    """The kind of a file; None if there is none."""
    try:
        return stat.S_IFMT(os.lstat(path).st_mode)
    except FileNotFoundError:
        return None


def remove(path):
    if kind_of(path) == stat.S_IFDIR:
        shutil.rmtree(path)
    else:
        os.unlink(path)


def is_same(one, other, kind):
    if kind == stat.S_IFLNK:
        return os.readlink(one) == os.readlink(other)
    return kind == stat.S_IFDIR or filecmp.cmp(one, other, shallow=False)


def make_attributes_same(source, target):
    """What is right already is not written: overlayfs would copy the file."""
    wanted, found = os.lstat(source), os.lstat(target)
    if (wanted.st_uid, wanted.st_gid) != (found.st_uid, found.st_gid):
        os.chown(target, wanted.st_uid, wanted.st_gid, follow_symlinks=False)
        found = os.lstat(target)
    if (wanted.st_mode, wanted.st_mtime_ns) != (found.st_mode, found.st_mtime_ns):
        shutil.copystat(source, target, follow_symlinks=False)


def mirror(source, target, spared):
    """`spared` are names, or paths, below both."""
    kind = kind_of(source)
    # A file is never written in place: it could have another name, somewhere else.
    if kind_of(target) not in (None, kind) or kind_of(target) == kind and not is_same(source, target, kind):
        remove(target)
    if kind_of(target) is None:
        if kind == stat.S_IFDIR:
            os.mkdir(target)
        else:
            shutil.copyfile(source, target, follow_symlinks=False)
    if kind == stat.S_IFDIR:
        here = {path for path in spared if "/" not in path}
        names = {name for name in os.listdir(source) if kind_of(os.path.join(source, name)) in COPIED} - here
        for name in sorted(set(os.listdir(target)) - names - here):
            remove(os.path.join(target, name))
        for name in sorted(names):
            below = [path[len(name) + 1 :] for path in spared if path.startswith(name + "/")]
            mirror(os.path.join(source, name), os.path.join(target, name), below)
    make_attributes_same(source, target)


end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
mirror(sys.argv[1], sys.argv[2], sys.argv[3:end])
if sys.argv[end + 1 :]:
    os.execvp(sys.argv[end + 1], sys.argv[end + 1 :])
