# Purpose: says which version of each package emerge would take now, how its USE flags stand, and what REQUIRED_USE it has.
# When:    in a throw-away session, once the settings of an experiment that concern every combination are in place.
# Inputs:  argv[1], a JSON file {"atoms": ["category/package", …]}.
# Output:  a line "@gentoomuch {JSON}" for each atom, in their order, then "@gentoomuch-done COUNT".

import json
import sys

from portage.dep import Atom
from visible import missing, ports, settings



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


with open(sys.argv[1], encoding="utf-8") as file:
    atoms = json.load(file)["atoms"]
for text in atoms:
    atom = Atom(text, allow_repo=True)
    best = ports.xmatch("bestmatch-visible", atom)
    answer = {"cpv": str(best), **flags_of(best)} if best else missing(atom)
    print("@gentoomuch " + json.dumps(answer))
print("@gentoomuch-done %d" % len(atoms))
