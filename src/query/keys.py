# Purpose: says of packages all that decides what their builds would be, as far as Portage knows it. gentoomuch makes a key of it.
# When:    asked where the configuration is in place, before anything else runs there.
# Answers: a list of what is known of each package that a tree has. "env" and "unset" are what differs from the package before;
#          "own_compiler" is the command of a compiler that others do not have, or nothing.

import hashlib
import json
import os
import re
import subprocess
import sys
from functools import cache

import portage
from portage.dep import Atom

from root import installed, ports, settings

etc = os.path.join(settings["PORTAGE_CONFIGROOT"], "etc/portage")
keys = sorted({*ports._aux_cache_keys, "SRC_URI", "RESTRICT", "INHERITED"})
# What a bashrc may read of /etc/portage, besides itself, is all that Portage has no meaning for, such as package.cflags, and env/, which has
# files for both. The user's own Portage profile may have such files, too.
OF_PACKAGES = (
    r"package\.(accept_keywords|accept_restrict|env|keywords|license|mask|properties|provided|unmask"
    r"|use|use\.force|use\.mask|use\.stable|use\.stable\.force|use\.stable\.mask)"
)
PORTAGES_OWN = re.compile(
    r"(binrepos\.conf|categories|color\.map|gnupg|license_groups|make\.conf|make\.profile|mirrors|modules|patches|postsync\.d|profile"
    rf"|repo\.postsync\.d|repos\.conf|savedconfig|sets|sets\.conf|{OF_PACKAGES})$"
)
PROFILES_OWN = re.compile(
    r"(categories|deprecated|eapi|make\.defaults|package\.bashrc|packages|packages\.build|parent|profile\.bashrc"
    rf"|use\.(defaults|force|mask|stable|stable\.force|stable\.mask)|virtuals|{OF_PACKAGES})$"
)
# By which a bashrc names files of /etc/portage, or other files that may do so.
NAMES_FILES = re.compile(rb"portage|hook_dir|\bsource\b|(^|[\s;&|({])\.\s", re.IGNORECASE)


class Digest:
    """A hash of files, by name and content."""

    def __init__(self):
        self.hash = hashlib.sha256()
        self.any = False

    def put(self, name, content):
        self.any = True
        for part in (os.fsencode(name), content):
            self.hash.update(len(part).to_bytes(8, "little") + part)

    def file(self, path, name=None):
        """A file, or what is below a directory; nothing if there is neither."""
        if os.path.isdir(path):
            for entry in sorted(os.listdir(path)):
                self.file(os.path.join(path, entry), os.path.join(name or path, entry))
        elif os.path.isfile(path):
            with open(path, "rb") as file:
                self.put(name or path, file.read())

    def told(self):
        return self.hash.hexdigest() if self.any else ""


@cache
def in_etc(*names):
    """A directory of /etc/portage; nothing if there is none: most packages have no files of their own there."""
    path = os.path.join(etc, *names)
    return path if os.path.isdir(path) else ""


@cache
def read_by_bashrcs():
    """/etc/portage/bashrc, and whatever else a bashrc may read there."""
    digest = Digest()
    for directory, own in (("", PORTAGES_OWN), ("profile", PROFILES_OWN)):
        top = in_etc(directory)
        for entry in sorted(os.listdir(top)) if top else ():
            if not own.match(entry):
                digest.file(os.path.join(top, entry), os.path.join(directory, entry))
    return digest.told()


@cache
def reads_files(path):
    """Whether a bashrc may read files of /etc/portage. One of a tree that names none does not: such a one may hold for all packages."""
    if path.startswith(etc + os.sep):
        return os.path.exists(path)
    try:
        with open(path, "rb") as file:
            return NAMES_FILES.search(file.read()) is not None
    except OSError:
        return False


@cache
def digest_of(path):
    digest = Digest()
    digest.file(path, os.path.basename(path))
    return digest.told()


@cache
def eclass_of(repository, name):
    return digest_of(ports.repositories[repository].eclass_db.eclasses[name].location)


@cache
def manifest_of(directory, repository):
    manifest = ports.repositories[repository].load_manifest(directory, settings["DISTDIR"], from_scratch=False)
    return manifest.getTypeDigests("DIST")


@cache
def compiler_of(command):
    """Name and major version of a compiler; nothing if there is none."""
    try:
        ran = [
            subprocess.run([*command.split(), option], capture_output=True, check=True, text=True, stdin=subprocess.DEVNULL)
            for option in ("--version", "-dumpversion")
        ]
    except (OSError, ValueError, subprocess.CalledProcessError):
        return ""
    first, version = ran[0].stdout.lower(), ran[1].stdout.strip()
    name = "clang" if "clang" in first else "gcc" if re.search(r"gcc|free software foundation", first) else first.split(" ")[0]
    return f"{name} {version.split('.')[0]}"


def compiler():
    """What answers, and the command if other packages have another one."""
    chosen = settings.get("CC", "")
    tried = [chosen] if chosen else [f"{settings.get('CHOST', '')}-gcc", "gcc", "cc", f"{settings.get('CHOST', '')}-clang", "clang"]
    own = tried[0] if chosen != portage.settings.get("CC", "") else ""
    return next((found for found in map(compiler_of, tried) if found), ""), own


def patches(category, package):
    """User patches, in each directory that eapply_user looks into."""
    digest = Digest()
    top = in_etc("patches", category)
    if not top:
        return ""
    # Of a first version without a revision, too: it looks for 2.10-r0.
    for name in (f"{package['P']}-{package['PR']}", package["P"], package["PN"]):
        for slot in ("", ":" + package["SLOT"]):
            digest.file(os.path.join(top, name + slot), name + slot)
    return digest.told()


def saved_configuration(category, package):
    digest = Digest()
    for host in ("", settings.get("CTARGET", ""), settings.get("CHOST", "")):
        top = in_etc("savedconfig", host, category)
        for name in (package["PF"], package["P"], package["PN"]) if top else ():
            digest.file(os.path.join(top, name), os.path.join(host, category, name))
    return digest.told()


def bashrc(category, package):
    """Each bashrc that Portage reads for a package, and what these may read."""
    digest = Digest()
    top = in_etc("env", category)
    names = (package["PN"], f"{package['PN']}:{package['SLOT']}", package["P"], package["PF"]) if top else ()
    paths = [*settings._pbashrc, os.path.join(etc, "bashrc"), *(os.path.join(top, name) for name in names)]
    for path in paths:
        digest.file(path)
    if any(map(reads_files, paths)):
        digest.put("read by them", read_by_bashrcs().encode())
    return digest.told()


def ebuild(cpv, repository, uris):
    path = ports.findname(cpv, myrepo=repository)
    directory = os.path.dirname(path)
    digest = Digest()
    digest.file(path, os.path.basename(path))
    digest.file(os.path.join(directory, "files"), "files")
    listed = manifest_of(directory, repository)
    # Names of files end addresses, or stand by themselves behind an arrow.
    for name in sorted({word.rsplit("/", 1)[-1] for word in uris.split()} & listed.keys()):
        digest.put(name, json.dumps(listed[name], sort_keys=True).encode())
    return digest.told()


def about(cpv, repository):
    """What counts; None if there is no such ebuild, or one that cannot be read."""
    try:
        metadata = dict(zip(keys, ports.aux_get(cpv, keys, myrepo=repository)))
        settings.setcpv(cpv, mydb=dict(metadata, repository=repository))
        environment = settings.environ()
        category, name, version, revision = portage.catpkgsplit(cpv)
        package = {"PN": name, "P": f"{name}-{version}", "PR": revision, "PF": cpv.split("/")[1], "SLOT": metadata["SLOT"].split("/")[0]}
        eclasses = Digest()
        for name in sorted(metadata["INHERITED"].split()):
            eclasses.put(name, eclass_of(repository, name).encode())
        answers, own_compiler = compiler()
        parts = {
            "ebuild": ebuild(cpv, repository, metadata["SRC_URI"]),
            "eclasses": eclasses.told(),
            "patches": patches(category, package),
            "savedconfig": saved_configuration(category, package),
            "bashrc": bashrc(category, package),
            "compiler": answers,
        }
    except (KeyError, portage.exception.PortageException) as error:
        print(f"{cpv}::{repository}: {error}", file=sys.stderr)
        return None
    return {"parts": parts, "own_compiler": own_compiler}, environment


def taken_for(targets):
    """The versions that emerge would take for atoms, as far as it has a choice; sets are left out. It is a guess that saves a question."""
    for target in targets:
        try:
            best = ports.xmatch("bestmatch-visible", Atom(target, allow_repo=True)) if not target.startswith("@") else ""
        except (KeyError, portage.exception.PortageException):
            continue
        if best:
            yield str(best), getattr(best, "repo", None) or ports.getRepositoryName(ports.porttree_root)


def ask_keys(packages, here, targets=()):
    """`packages`: pairs of "category/name-version" and repository. `here`: also of those that are installed."""
    wanted = [tuple(package) for package in packages]
    there = set()
    if here:
        there = {(str(cpv), installed.aux_get(cpv, ["repository"])[0]) for cpv in installed.cpv_all()}
        wanted += sorted(there)
    wanted += taken_for(targets)
    answer, before = [], {}
    for cpv, repository in dict.fromkeys(wanted):
        found = about(cpv, repository)
        if found is None:
            continue
        told, environment = found
        differs = {name: value for name, value in environment.items() if before.get(name) != value}
        unset = [name for name in before if name not in environment]
        before = environment
        told |= {"cpv": cpv, "repository": repository, "env": differs, "unset": unset, "installed": (cpv, repository) in there}
        answer.append(told)
    return answer


ANSWERS = {"keys": ask_keys}
