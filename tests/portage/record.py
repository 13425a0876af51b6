#!/usr/bin/env python3
"""What Portage itself reads in the files of the corpus, as JSON.

    record.py CORPUS                  with `portage` importable; as in README.md

Each file or directory of CORPUS/KIND/ is one case, and so is each line of CORPUS/atoms. A case's
value is what Portage's own reader of that KIND returns, called as Portage calls it for the user's
configuration; `says` is what the reader complains about, `error` that it gives up.
"""

import contextlib
import io
import json
import os
import sys
import warnings

from portage._sets.files import StaticFileSet
from portage.dep import Atom, isvalidatom
from portage.exception import InvalidAtom, ParseError
from portage.package.ebuild._config.UseManager import UseManager
from portage.util import getconfig, grabdict_package, grabfile, grabfile_package

warnings.simplefilter("ignore")
LINES = {"recursive": 1, "allow_wildcard": True, "allow_repo": True, "verify_eapi": False}
BUILD = {**LINES, "allow_build_id": True}
NO_USE = {**BUILD, "allow_use": False}


def variables(path):
    # package/ebuild/config.py: `make.conf` is recursive, and may source.
    return getconfig(path, allow_sourcing=True, recursive=True, expand={})


def env_file(path):
    # package/ebuild/config.py, `_grab_pkg_env`: a file only.
    return getconfig(path, allow_sourcing=True, expand={})


def package_use(path):
    read = UseManager._parse_user_files_to_extatomdict(None, os.path.basename(path), os.path.dirname(path), True)
    return {str(atom): list(flags) for atoms in read.values() for atom, flags in atoms.items()}


def words(**options):
    return lambda path: {str(atom): list(found) for atom, found in grabdict_package(path, **options).items()}


def masks(path):
    return [str(atom) for atom in grabfile_package(path, **BUILD)]


def package_set(path):
    read = StaticFileSet(path)
    read.load()
    return {"atoms": sorted(map(str, read.getAtoms())), "sets": sorted(read.getNonAtoms()), "wrong": len(read.errors)}


def provided(path):
    return [line for line in grabfile(path, recursive=1) if isvalidatom("=" + line)]


KINDS = {
    "make.conf": variables,
    "env": env_file,
    "package.use": package_use,
    "package.accept_keywords": words(**NO_USE),
    "package.keywords": words(**NO_USE),
    "package.license": words(**LINES),
    "package.properties": words(**BUILD),
    "package.accept_restrict": words(**BUILD),
    "package.env": words(**BUILD),
    "package.mask": masks,
    "package.unmask": masks,
    "sets": package_set,
    "package.provided": provided,
}


def read(kind, path):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            result = {"value": KINDS[kind](path)}
        except ParseError as error:
            result = {"error": str(error)}
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
    corpus = os.path.dirname(os.path.dirname(path)) + "/"
    if said.getvalue():
        result["says"] = said.getvalue().replace(corpus, "").splitlines()
    if "error" in result:
        result["error"] = result["error"].replace(corpus, "")
    return result


def atom(text):
    try:
        read = Atom(text, allow_wildcard=True, allow_repo=True, allow_build_id=True)
    except InvalidAtom:
        return None
    return {
        "cp": read.cp,
        "operator": read.operator,
        "version": read.version,
        "build_id": read.build_id,
        "slot": read.slot,
        "sub_slot": read.sub_slot,
        "slot_operator": read.slot_operator,
        "repo": read.repo,
        "use": list(read.use.tokens) if read.use else [],
        "blocker": bool(read.blocker),
        "wildcard": read.extended_syntax,
    }


def main(corpus):
    corpus = os.path.abspath(corpus)
    cases = {}
    for kind in sorted(KINDS):
        folder = os.path.join(corpus, kind)
        for name in sorted(os.listdir(folder)):
            cases[f"{kind}/{name}"] = read(kind, os.path.join(folder, name))
    with open(os.path.join(corpus, "atoms"), encoding="utf-8") as lines:
        for text in lines.read().split("\n"):
            if text:
                cases[f"atoms/{text}"] = {"value": atom(text)}
    json.dump(cases, sys.stdout, indent=1, sort_keys=True, ensure_ascii=True)
    print()


main(sys.argv[1])
