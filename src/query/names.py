# Purpose: says what Portage does not know of the things that a configuration names: packages, flags, licences, keywords, sets.
# When:    asked where the configuration of a stage is in place.
# Answers: null, or {"problem": …, "near": […], "details": […]}.

import difflib
import os
from functools import cache

import portage
from portage.dep import Atom, extended_cp_match, match_from_list
from portage.exception import PortageException

from root import installed, ports, sets, settings, words

locations = list(ports.porttrees)


def lines_of(*path):
    """The lines of a file of each tree, without comments and blank lines."""
    for tree in locations:
        try:
            with open(os.path.join(tree, *path), encoding="utf-8", errors="replace") as file:
                for line in file:
                    line = line.strip()
                    if line and not line.startswith("#"):
                        yield line
        except OSError:
            pass


@cache
def described():
    flags = {line.split(" - ")[0].strip() for line in lines_of("profiles", "use.desc")}
    for line in lines_of("profiles", "use.local.desc"):
        flags.add(line.split(" - ")[0].strip().rpartition(":")[2])
    for tree in locations:
        try:
            names = os.listdir(os.path.join(tree, "profiles", "desc"))
        except OSError:
            continue
        for name in names:
            if name.endswith(".desc"):
                for line in lines_of("profiles", "desc", name):
                    flags.add(name[: -len(".desc")].lower() + "_" + line.split(" - ")[0].strip())
    return flags


@cache
def implicit():
    flags = set(settings.get("IUSE_IMPLICIT", "").split())
    unprefixed = settings.get("USE_EXPAND_UNPREFIXED", "").split()
    for variable in settings.get("USE_EXPAND_IMPLICIT", "").split():
        prefix = "" if variable in unprefixed else variable.lower() + "_"
        flags.update(prefix + value for value in settings.get("USE_EXPAND_VALUES_" + variable, "").split())
    flags.update(arches())
    return flags


@cache
def users():
    """Every flag of the trees, with the versions that have it."""
    users = {}
    for cp in ports.cp_all():
        for cpv in ports.cp_list(cp):
            for flag in iuse(ports, cpv):
                users.setdefault(flag, []).append(cpv)
    return users


@cache
def suspects():
    """Flags that anything masks or forces, somewhere: of others nobody needs to look at all packages."""
    uses, found = settings._use_manager, set()
    kinds = [prefix + what for what in ("mask", "force") for prefix in ("use", "usestable", "puse", "pusestable")]
    stack = [getattr(uses, name % kind, None) for kind in kinds for name in ("_%s_list", "_repo_%s_dict")]
    while stack:
        thing = stack.pop()
        if isinstance(thing, str):
            found.add(thing.lstrip("-"))
        elif hasattr(thing, "keys"):
            stack.extend(thing[key] for key in list(thing))
        elif thing is not None:
            stack.extend(thing)
    return found


def iuse(dbapi, cpv):
    try:
        return {flag.lstrip("+-") for flag in dbapi.aux_get(cpv, ["IUSE"])[0].split()}
    except KeyError:
        return set()


@cache
def licences():
    names = set()
    for tree in locations:
        try:
            names.update(os.listdir(os.path.join(tree, "licenses")))
        except OSError:
            pass
    return names


@cache
def groups():
    groups = {line.split()[0] for line in lines_of("profiles", "license_groups")}
    try:
        with open(os.path.join(settings["PORTAGE_CONFIGROOT"], "etc/portage/license_groups"), encoding="utf-8") as file:
            groups.update(line.split()[0] for line in file if line.split() and not line.startswith("#"))
    except OSError:
        pass
    return groups


@cache
def arches():
    return set(lines_of("profiles", "arch.list"))


@cache
def all_iuse():
    return set(users())


@cache
def names():
    return sorted(ports.cp_all())


def near(name, known):
    return difflib.get_close_matches(name, sorted(known), 3, 0.7)


def is_known_flag(flag):
    return flag in described() or flag in implicit() or flag in all_iuse()


def near_package(cp):
    category, _, package = cp.partition("/")
    packages = {}
    for other in names():
        packages.setdefault(other.partition("/")[2], []).append(other)
    close = [package] if package in packages else difflib.get_close_matches(package, sorted(packages), 3, 0.75)
    found = [other for name in close for other in packages[name]]
    return sorted(found, key=lambda other: other.partition("/")[0] != category)[:3]


@cache
def matches(dbapi, atom):
    """The versions that match; a whole tree, where an atom of wildcards means that, is only gone through once."""
    if not atom.extended_syntax:
        return dbapi.xmatch("match-all", atom) if dbapi is ports else dbapi.match(atom)
    found = []
    for cp in names() if dbapi is ports else dbapi.cp_all():
        if extended_cp_match(atom.cp, cp):
            found.extend(dbapi.cp_list(cp))
    if atom.slot:
        # Listed without their slots.
        found = [dbapi._pkg_str(cpv, getattr(cpv, "repo", None)) for cpv in found]
    return match_from_list(atom, found) if atom.operator or atom.slot or atom.repo else found


def missing(atom, future=False):
    """Why no version matches; None if one does. `future`: one that is not there yet may be meant."""
    if atom.repo and atom.repo not in settings.repositories.prepos:
        known = sorted(settings.repositories.prepos_order)
        return {"problem": "no-repository", "near": near(atom.repo, known), "details": known}
    plain_wildcard = atom.extended_syntax and not (atom.operator or atom.slot or atom.repo)
    if plain_wildcard and any(extended_cp_match(atom.cp, cp) for cp in names()):
        return None
    if matches(ports, atom) or matches(installed, atom) or is_provided(atom):
        return None
    versions = [] if atom.extended_syntax else ports.cp_list(atom.cp)
    if not versions:
        return {"problem": "no-package", "near": [] if atom.extended_syntax else near_package(atom.cp)}
    if future and (atom.operator or "").startswith(">"):
        # Masked before it is there.
        return None
    shown = []
    for cpv in versions[-8:]:
        slot, repo = ports.aux_get(cpv, ["SLOT", "repository"], myrepo=getattr(cpv, "repo", None))
        shown.append(cpv.version + (":" + slot if atom.slot else "") + ("::" + repo if atom.repo else ""))
    return {"problem": "no-version", "details": shown}


def is_provided(atom):
    return bool(match_from_list(atom, settings.pprovideddict.get(atom.cp, [])))


def parsed(text):
    return Atom(text, allow_wildcard=True, allow_repo=True)


def ask_atom(atom, future):
    return missing(parsed(atom), future)


def ask_target(atom):
    atom = parsed(atom)
    problem = missing(atom)
    if problem or ports.xmatch("bestmatch-visible", atom):
        return problem
    found = ports.xmatch("match-all", atom)
    if not found:
        # Installed, and gone from the tree.
        return None
    best, reasons = found[-1], masking(found[-1])
    return {"problem": "masked", "details": [str(best)] + reasons} if reasons else None


def masking(version):
    """Why it may not be installed, in Portage's words."""
    return portage.getmaskingstatus(version, settings=settings, portdb=ports, myrepo=getattr(version, "repo", None))


def ask_flag(atom, flag, on):
    atom = parsed(atom)
    if flag in implicit():
        # It is in the `IUSE` of none, and for all of them.
        return beaten(flag, on)
    if str(atom) == "*/*" and is_known_flag(flag):
        return beaten(flag, on)
    known = set()
    for dbapi in (ports, installed):
        for cpv in matches(dbapi, atom):
            known |= iuse(dbapi, cpv)
            if flag in known:
                return beaten(flag, on, atom)
    if not matches(ports, atom):
        # An answer to another question.
        return None
    return {"problem": "no-flag", "near": near(flag, known), "details": [] if atom.extended_syntax else sorted(known)}


def beaten(flag, on, atom=None):
    """What of the profile keeps the flag from being switched, for all versions that have it, as far as they can be installed; masks beat
    what is forced."""
    if flag not in suspects():
        return None
    uses = settings._use_manager
    if atom is None:
        versions = [] if flag in implicit() else users().get(flag, [])
    else:
        versions = [cpv for cpv in matches(ports, atom) if flag in iuse(ports, cpv)]
    # Of a stable version other lines count than of one that is not accepted anyway.
    versions = list(ports._iter_visible(versions)) or versions
    packages = [ports._pkg_str(str(cpv), getattr(cpv, "repo", None)) for cpv in versions] or ([None] if atom is None else [])
    if not packages:
        return None
    if on:
        return {"problem": "masked-flag"} if all(flag in uses.getUseMask(package) for package in packages) else None
    forced = all(flag in uses.getUseForce(package) and flag not in uses.getUseMask(package) for package in packages)
    return {"problem": "forced-flag"} if forced else None


def ask_global_flag(flag, on):
    if is_known_flag(flag):
        return beaten(flag, on)
    return {"problem": "unknown-flag", "near": near(flag, described() | all_iuse())}


def ask_value(variable, value, on):
    unprefixed = settings.get("USE_EXPAND_UNPREFIXED", "").split()
    if variable not in settings.get("USE_EXPAND", "").split() or variable in unprefixed or variable == "LINGUAS":
        return None
    prefix = variable.lower() + "_"
    if is_known_flag(prefix + value):
        return beaten(prefix + value, on)
    known = {flag[len(prefix) :] for flag in described() | all_iuse() if flag.startswith(prefix)}
    return {"problem": "unknown-value", "near": near(value, known)}


def ask_licence(name):
    if name == "*" or name in licences() or (name.startswith("@") and name[1:] in groups()):
        return None
    if name.startswith("@"):
        return {"problem": "no-licence", "near": ["@" + group for group in near(name[1:], groups())]}
    return {"problem": "no-licence", "near": near(name, licences())}


def ask_keyword(name):
    if name in ("*", "**", "~*") or name.lstrip("~") in arches():
        return None
    return {"problem": "no-keyword", "near": near(name, arches() | {"~" + arch for arch in arches()})}


def ask_feature(name):
    known = portage.const.SUPPORTED_FEATURES
    return None if name in known else {"problem": "no-feature", "near": near(name, known)}


def ask_set(name):
    return None if name in sets().getSets() else {"problem": "no-set", "near": near(name, sets().getSets())}


def told(ask):
    """Answers a question by `ask`."""

    def answer(**question):
        try:
            problem = ask(**question)
        except PortageException as error:
            problem = {"problem": "refused", "details": [error]}
        except KeyError:
            # An ebuild that cannot be read is the tree's mistake.
            problem = None
        return problem and {name: text if name == "problem" else words(text) for name, text in problem.items()}

    return answer


ANSWERS = {
    "atom": told(ask_atom),
    "target": told(ask_target),
    "flag": told(ask_flag),
    "global-flag": told(ask_global_flag),
    "value": told(ask_value),
    "licence": told(ask_licence),
    "keyword": told(ask_keyword),
    "feature": told(ask_feature),
    "set": told(ask_set),
}
