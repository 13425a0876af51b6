# Purpose: says what is known of packages, or applies the user's patches to their sources as the build will, and stops there.
# When:    before anything is compiled: once the packages of a run are known, and again once their sources are there.
# Inputs:  argv[1], a JSON file {"packages": ["category/name-version", …], "atoms": […], "apply": bool, "scratch": DIR, "logs": DIR}.
# Output:  a line "@gentoomuch {JSON}" for each package: slot and EAPI, or the log of what was done; for each atom the version to take.

import json
import os
import shutil
import subprocess
import sys

import portage

root = portage.settings["EROOT"] if portage.settings["EROOT"] in portage.db else portage.root
ports = portage.db[root]["porttree"].dbapi


def about(cpv):
    """Slot and EAPI of a version that a tree has."""
    try:
        slot, eapi = ports.aux_get(cpv, ["SLOT", "EAPI"])
    except (KeyError, portage.exception.PortageException):
        return {}
    return {"slot": slot, "eapi": eapi}


def apply(cpv, scratch, logs):
    """Unpacks and prepares a version in a directory of its own. Only its log tells what became of the patches."""
    ebuild = ports.findname(cpv)
    log = os.path.join(logs, cpv.replace("/", ":") + ".log")
    environment = dict(os.environ, PORTAGE_TMPDIR=scratch, NOCOLOR="true")
    with open(log, "wb") as output:
        for phases in (["clean", "prepare"], ["clean"]):
            command = ["ebuild", "--color=n", ebuild, *phases]
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, check=False)
            # What cleaning says is no news.
            output = subprocess.DEVNULL
    return {"log": log}


with open(sys.argv[1], encoding="utf-8") as file:
    request = json.load(file)
if request["apply"]:
    for directory in (request["scratch"], request["logs"]):
        os.makedirs(directory, mode=0o755, exist_ok=True)
for cpv in request["packages"]:
    found = apply(cpv, request["scratch"], request["logs"]) if request["apply"] else about(cpv)
    print("@gentoomuch " + json.dumps({"package": cpv, **found}), flush=True)
for text in request["atoms"]:
    best = ports.xmatch("bestmatch-visible", portage.dep.Atom(text, allow_repo=True))
    found = about(best) if best else {}
    print("@gentoomuch " + json.dumps({"package": text, "cpv": str(best), **found}), flush=True)
if request["apply"]:
    shutil.rmtree(request["scratch"], ignore_errors=True)
