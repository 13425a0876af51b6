# Purpose: says which installed packages need which others, and which of them are asked for by name.
# When:    asked in a session where nothing has run, about packages that need not be installed there.
# Answers: {"targets": […], "roots": […], "needs": […], "unread": […]}, where packages are numbers in the list of the question.

import os

from portage.dep import Atom, use_reduce
from portage.exception import PortageException

from given import database
from root import sets, settings

RUN = ("RDEPEND", "PDEPEND", "IDEPEND")
BUILD = ("DEPEND", "BDEPEND")
# Of a package that is needed by others all ways to say so would be too much.
LONGEST = 200


def matching(atom, there):
    """What is installed for an atom of a dependency: with its USE flags if possible."""
    return there.match(atom) or (there.match(atom.without_use) if atom.use else [])


def chosen(dependencies, there):
    """Pairs of an atom and what is installed for it. Of alternatives it is the first that is installed as a whole, as emerge has it."""
    if isinstance(dependencies, Atom):
        return [] if dependencies.blocker else [(dependencies, cpv) for cpv in matching(dependencies, there)[-1:]]
    if dependencies and dependencies[0] == "||":
        for alternative in dependencies[1:]:
            if is_met(alternative, there):
                return chosen(alternative, there)
        return []
    return [pair for one in dependencies for pair in chosen(one, there)]


def is_met(dependencies, there):
    if isinstance(dependencies, Atom):
        return dependencies.blocker or bool(there.match(dependencies))
    if dependencies and dependencies[0] == "||":
        return any(is_met(one, there) for one in dependencies[1:])
    return all(is_met(one, there) for one in dependencies)


def needs_of(cpv, values, there, unread):
    """What a package needs: for each other one an atom, and whether it does so when it runs."""
    found, use, eapi = {}, values.get("USE", "").split(), values.get("EAPI") or "0"
    for kinds, run in ((RUN, True), (BUILD, False)):
        for kind in kinds:
            try:
                reduced = use_reduce(values.get(kind, ""), uselist=use, eapi=eapi, opconvert=True, token_class=Atom)
                for atom, other in chosen(reduced, there):
                    found.setdefault(other, (str(atom)[:LONGEST], run))
            except (PortageException, RecursionError) as error:
                unread.append(f"{kind} of {cpv}: {error}"[:LONGEST])
    return {other: told for other, told in found.items() if other != cpv}


def place_in_profile(atom):
    """Where the Portage profile has an atom of @system: "TREE:PATH:LINE"."""
    for profile in reversed(settings.profiles):
        path = os.path.join(profile, "packages")
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = list(file)
        except OSError:
            continue
        for number, line in enumerate(lines, 1):
            if line.split("#")[0].strip().lstrip("*") == str(atom):
                return f"{shown_place(path)}:{number}"
    return ""


def shown_place(path):
    for repository in settings.repositories:
        if repository.location and path.startswith(repository.location + "/"):
            return f"{repository.name}:{path[len(repository.location) + 1:]}"
    return path


def roots_of(world, unread):
    """What is asked for by name: atoms with the set that has them, and where the Portage profile says so."""
    known = sets().getSets()
    for name in ("system", "profile"):
        if name in known:
            for atom in sorted(map(str, sets().getSetAtoms(name))):
                yield name, atom, place_in_profile(atom)
    for line in world:
        if not line.startswith("@"):
            yield "selected", line, ""
        elif line[1:] in known:
            try:
                for atom in sorted(map(str, sets().getSetAtoms(line[1:]))):
                    yield line[1:], atom, ""
            except (PortageException, KeyError, RecursionError) as error:
                unread.append(f"{line}: {error}"[:LONGEST])
        else:
            unread.append(f"{line}: there is no such set"[:LONGEST])


def ask_why(packages, world, atom):
    """`world`: lines of the files `world` and `world_sets`. `atom`: the package in question."""
    there, unread = database(packages)
    number = {package["cpv"]: at for at, package in enumerate(packages)}
    needs = []
    for at, package in enumerate(packages):
        if there.cpv_exists(package["cpv"]):
            for other, (by, run) in needs_of(package["cpv"], package["values"], there, unread).items():
                needs.append({"from": at, "to": number[other], "atom": by, "run": run})
    roots = []
    for name, text, place in roots_of(world, unread):
        try:
            wanted = Atom(text, allow_repo=True)
            found = [number[cpv] for cpv in there.match(wanted)] if not wanted.blocker else []
        except PortageException as error:
            unread.append(f"{text}: {error}"[:LONGEST])
            continue
        # An atom of world holds the newest version, as emerge has it.
        if found:
            roots.append({"set": name, "atom": text[:LONGEST], "place": place[:1000], "package": found[-1]})
    targets = [number[cpv] for cpv in there.match(Atom(atom, allow_repo=True))]
    return {"targets": targets, "roots": roots, "needs": needs, "unread": unread[:100]}


ANSWERS = {"why": ask_why}
