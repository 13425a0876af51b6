# Purpose: says which version of a package emerge would take now, and where its ebuild is.
# When:    in a throw-away session, once the configuration is in place.
# Inputs:  argv[1], an atom.
# Output:  one line "@gentoomuch {JSON}".

import difflib
import json
import sys

import portage
from portage.dep import Atom
from portage.package.ebuild.getmaskingstatus import getmaskingstatus
from portage.versions import catpkgsplit

settings = portage.config(clone=portage.settings)
root = settings["EROOT"] if settings["EROOT"] in portage.db else portage.root
ports = portage.db[root]["porttree"].dbapi


def found(cpv, repository):
    """All that names this very ebuild."""
    category, name, version, revision = catpkgsplit(str(cpv))
    eapi, slot = ports.aux_get(cpv, ["EAPI", "SLOT"], myrepo=repository)
    return {
        "cpv": str(cpv),
        "category": category,
        "package": name,
        "version": version,
        "revision": revision,
        "slot": slot.split("/")[0],
        "repository": repository,
        "eapi": eapi,
        "ebuild": ports.findname(cpv, myrepo=repository),
    }


def missing(atom):
    """Why there is no version to take, or what could have been meant."""
    versions = ports.xmatch("match-all", atom)
    if versions:
        newest = versions[-1]
        reasons = getmaskingstatus(newest, settings=settings, portdb=ports)
        return {"versions": [str(cpv) for cpv in versions][-8:], "reasons": [str(reason) for reason in reasons][:8]}
    names = ports.cp_all()
    same = [name for name in names if name.split("/")[1] == atom.cp.split("/")[1] and name != atom.cp]
    return {"near": (same or difflib.get_close_matches(atom.cp, names, 3, 0.75))[:3]}


atom = Atom(sys.argv[1], allow_repo=True)
best = ports.xmatch("bestmatch-visible", atom)
if best:
    answer = found(best, atom.repo or getattr(best, "repo", None) or ports.getRepositoryName(ports.porttree_root))
else:
    answer = missing(atom)
print("@gentoomuch " + json.dumps(answer))
