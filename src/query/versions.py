# Purpose: says which version of a package emerge would take now, what an ebuild says of itself, and what becomes of the user's patches.
# When:    asked where a configuration is in place; `rehearsal` before anything is compiled, once the sources are there.

import os
import shutil
import subprocess
import sys

import portage
from portage.dep import Atom

from names import masking, near_package
from root import ports, settings, words


def ask_version(atom, why, flags):
    """{"found": …}, or {"missing": …}, which says why only if that is asked: it takes a while."""
    atom = Atom(atom, allow_repo=True)
    best = ports.xmatch("bestmatch-visible", atom)
    if not best:
        return {"missing": missing(atom) if why else {}}
    repository = atom.repo or getattr(best, "repo", None) or ports.getRepositoryName(ports.porttree_root)
    found = {
        "cpv": str(best),
        "repository": repository,
        "slot": ports.aux_get(best, ["SLOT"], myrepo=repository)[0].split("/")[0],
        "ebuild": ports.findname(best, myrepo=repository),
    }
    return {"found": dict(found, flags=flags_of(best)) if flags else found}


def missing(atom):
    """Why there is no version to take, or what could have been meant."""
    versions = ports.xmatch("match-all", atom)
    if versions:
        return {"versions": words(versions[-8:]), "reasons": words(masking(versions[-1]))}
    return {"near": near_package(atom.cp)}


def flags_of(cpv):
    """The flags of a version: all, those that are on, and those that the Portage profile decides."""
    settings.setcpv(cpv, mydb=ports)
    iuse, required_use = ports.aux_get(cpv, ["IUSE", "REQUIRED_USE"])
    iuse = {flag.lstrip("+-") for flag in iuse.split()}
    return {
        "all": sorted(iuse),
        "on": sorted(iuse & set(settings["PORTAGE_USE"].split())),
        "masked": sorted(iuse & settings.usemask),
        "forced": sorted(iuse & settings.useforce),
        "required_use": " ".join(required_use.split()),
    }


def ask_ebuild(cpv, repository, files):
    """What an ebuild says; null if it cannot be read. `files`: also which source archives are needed with the flags that are on."""
    keys = sorted({*ports._aux_cache_keys, "EAPI", "RESTRICT", "SLOT", "SRC_URI"})
    try:
        metadata = dict(zip(keys, ports.aux_get(cpv, keys, myrepo=repository)))
        if files:
            settings.setcpv(cpv, mydb=dict(metadata, repository=repository))
            use = settings["PORTAGE_USE"].split()
            tree = settings.repositories.get_location_for_name(repository)
            files = sorted(ports.getFetchMap(cpv, useflags=use, mytree=tree))
    except (KeyError, portage.exception.PortageException) as error:
        print(f"{cpv}::{repository}: {error}", file=sys.stderr)
        return None
    told = {key.lower(): metadata[key] for key in ("EAPI", "RESTRICT", "SLOT", "SRC_URI")}
    return dict(told, files=files or [])


def ask_rehearsal(cpv, scratch, logs):
    """Unpacks and prepares a version in a directory of its own. The log, whose path it says, tells what became of the patches."""
    for directory in (scratch, logs):
        os.makedirs(directory, mode=0o755, exist_ok=True)
    ebuild = ports.findname(cpv)
    log = os.path.join(logs, cpv.replace("/", ":") + ".log")
    environment = dict(os.environ, PORTAGE_TMPDIR=scratch, NOCOLOR="true")
    with open(log, "wb") as output:
        for phases in (["clean", "prepare"], ["clean"]):
            command = ["ebuild", "--color=n", ebuild, *phases]
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, check=False)
            # What cleaning says is no news.
            output = subprocess.DEVNULL
    shutil.rmtree(scratch, ignore_errors=True)
    return log


ANSWERS = {"version": ask_version, "ebuild": ask_ebuild, "rehearsal": ask_rehearsal}
