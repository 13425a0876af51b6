# Purpose: says which version of each package emerge would take now, how its USE flags stand, and what REQUIRED_USE it has.
# When:    in a throw-away session, once the settings of an experiment that concern every combination are in place.
# Inputs:  argv[1], a JSON file {"atoms": ["category/package", …]}.
# Output:  a line "@gentoomuch {JSON}" for each atom, in their order, then "@gentoomuch-done COUNT".

import difflib
import json
import sys

import portage
from portage.dep import Atom
from portage.package.ebuild.getmaskingstatus import getmaskingstatus

settings = portage.config(clone=portage.settings)
root = settings["EROOT"] if settings["EROOT"] in portage.db else portage.root
ports = portage.db[root]["porttree"].dbapi


def flags_of(cpv):
    """The flags of a version: all, those that are on, and those that the Portage profile decides."""
    settings.setcpv(cpv, mydb=ports)
    iuse = {flag.lstrip("+-") for flag in ports.aux_get(cpv, ["IUSE"])[0].split()}
    return {
        "flags": sorted(iuse),
        "on": sorted(iuse & set(settings["PORTAGE_USE"].split())),
        "masked": sorted(iuse & settings.usemask),
        "forced": sorted(iuse & settings.useforce),
        "required_use": " ".join(ports.aux_get(cpv, ["REQUIRED_USE"])[0].split()),
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


with open(sys.argv[1], encoding="utf-8") as file:
    atoms = json.load(file)["atoms"]
for text in atoms:
    atom = Atom(text, allow_repo=True)
    best = ports.xmatch("bestmatch-visible", atom)
    answer = {"cpv": str(best), **flags_of(best)} if best else missing(atom)
    print("@gentoomuch " + json.dumps(answer))
print("@gentoomuch-done %d" % len(atoms))
