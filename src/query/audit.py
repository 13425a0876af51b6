# Purpose: holds installed packages against the trees: which security advisories are about them, and of which there is another version, or none.
# When:    asked in a session where nothing has run, about packages that need not be installed there.
# Answers: {"advisories": null or {"known": …, "found": […], "unread": […]}, "versions": […], "unread": […]}.

import os
import re
from functools import cache

from portage import glsa
from portage.dep import Atom
from portage.exception import InvalidAtom, PortageException
from portage.versions import vercmp

from given import database
from root import ports, settings, words

NAMED = re.compile(rb"""<package\b[^>]*\bname\s*=\s*["']([^"'&]+)["']""")

# As much of the settings as `portage.glsa` reads. A `GLSA_DIR` of the root would lead it past those of the tree.
of_tree = {
    "PORTDIR": settings.repositories.mainRepoLocation() or "",
    "ARCH": settings.get("ARCH", ""),
    "EROOT": settings["EROOT"],
}


@cache
def names_in(number):
    """The packages that an advisory names; none if only its parser can tell."""
    path = os.path.join(of_tree["PORTDIR"], "metadata", "glsa", f"glsa-{number}.xml")
    with open(path, "rb") as file:
        text = file.read()
    names = NAMED.findall(text)
    return frozenset(names) if len(names) == len(re.findall(rb"<package\b", text)) else frozenset()


@cache
def parsed(number):
    return glsa.Glsa(number, of_tree, None, ports)


def affected(number, there):
    """What the advisory says of the packages in `there`; None if it is about none of them."""
    advisory = parsed(number)
    advisory.vardbapi = there
    # It is this that looks at architectures, and at how it is written.
    if not advisory.isVulnerable():
        return None
    found = {}
    for paths in advisory.packages.values():
        for path in paths:
            if path["arch"] != "*" and of_tree["ARCH"] not in path["arch"].split():
                continue
            for cpv, fixed in glsa.getMinUpgrade(path["vul_atoms"], path["unaff_atoms"], ports, there) or ():
                found[str(cpv)] = str(fixed)
    packages = [{"cpv": cpv, "fixed": fixed} for cpv, fixed in sorted(found.items())]
    severity = advisory.impact_type
    return {"id": number, "title": advisory.title[:300], "severity": severity[:30], "packages": packages}


def advisories(there):
    """None where the tree has no advisories, which says nothing about what is installed."""
    known = sorted(glsa.get_glsa_list(of_tree)) if of_tree["PORTDIR"] else []
    if not known:
        return None
    names = {cp.encode() for cp in there.cp_all()}
    found, unread = [], []
    for number in known:
        try:
            named = names_in(number)
            told = affected(number, there) if not named or named & names else None
        # A file of the tree can be wrong in any way, and `portage.glsa` has no single error for that.
        except Exception as error:
            unread.append(f"glsa-{number}: {error}"[:200])
        else:
            if told:
                found.append(told)
    return {"known": len(known), "found": found, "unread": unread[:100]}


def version_of(cpv, repository):
    """What has become of an installed package in the trees; None if it is the newest version that can be taken there."""
    versions = ports.cp_list(cpv.cp)
    best = ports.xmatch("bestmatch-visible", Atom(f"{cpv.cp}:{cpv.slot}")) if versions else ""
    told = {"cpv": str(cpv), "slot": cpv.slot, "newest": str(best or "")}
    if best and vercmp(best.version, cpv.version) > 0:
        return dict(told, status="outdated")
    if any(cpv.version == other.version for other in versions):
        return None
    if repository and repository not in settings.repositories.prepos:
        return dict(told, status="unknown", repository=repository[:100])
    newest = best or (ports.xmatch("bestmatch-visible", Atom(cpv.cp)) if versions else "")
    return dict(told, status="removed", newest=str(newest or ""))


def ask_audit(packages):
    there, unread = database(packages)
    versions = []
    for cpv in sorted(there.cpv_all()):
        try:
            told = version_of(cpv, there.aux_get(cpv, ["repository"])[0])
        except (InvalidAtom, KeyError, PortageException):
            unread.append(str(cpv))
            continue
        if told:
            versions.append(told)
    return {"advisories": advisories(there), "versions": versions, "unread": words(unread, 100)}


ANSWERS = {"audit": ask_audit}
