# Purpose: the trees as Portage sees them now, for the scripts beside it that ask about packages.
# When:    imported by them.

import difflib

import portage
from portage.package.ebuild.getmaskingstatus import getmaskingstatus

settings = portage.config(clone=portage.settings)
ports = portage.db[settings["EROOT"] if settings["EROOT"] in portage.db else portage.root]["porttree"].dbapi


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
