# Purpose: says which version of a package emerge would take now, and where its ebuild is.
# When:    in a throw-away session, once the configuration is in place.
# Inputs:  argv[1], an atom.
# Output:  one line "@gentoomuch {JSON}".

import json
import sys

from portage.dep import Atom
from portage.versions import catpkgsplit
from visible import missing, ports



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


atom = Atom(sys.argv[1], allow_repo=True)
best = ports.xmatch("bestmatch-visible", atom)
if best:
    answer = found(best, atom.repo or getattr(best, "repo", None) or ports.getRepositoryName(ports.porttree_root))
else:
    answer = missing(atom)
print("@gentoomuch " + json.dumps(answer))
