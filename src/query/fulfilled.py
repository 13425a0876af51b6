# Purpose: holds what is installed against what emerge was asked for, and what it had decided.
# When:    asked after a run of emerge that ended well, in the same session.
# Answers: a list of {"problem": …, "target": …, "details": […]}, of all that is otherwise.

from portage.dep import Atom, match_from_list
from portage.exception import PortageException

from root import installed, sets, settings, words


def unmet(problem, target, details=()):
    return {"problem": problem, "target": target[:200], "details": words(details, 20)}


def atoms_of(target):
    """The atoms of a set, with those of the sets in it."""
    return sorted(sets().getSetAtoms(target[1:]), key=str) if target.startswith("@") else [target]


def is_recorded(target):
    """Whether emerge records the target in world at all."""
    if not target.startswith("@"):
        return True
    known = sets().getSets().get(target[1:])
    return target not in ("@world", "@selected") and getattr(known, "world_candidate", False)


def found_in(atoms, cpv):
    return any(atom.cp == cpv.cp and match_from_list(atom.without_use, [cpv]) for atom in atoms)


def check_targets(targets, world):
    kept = [Atom(str(atom), allow_repo=True) for name in ("selected", "system") for atom in sets().getSetAtoms(name)]
    for target in targets:
        for text in atoms_of(target):
            atom = Atom(str(text), allow_repo=True)
            if atom.blocker:
                continue
            shown = str(text) if text == target else "%s of %s" % (text, target)
            matches = installed.match(atom)
            if not matches:
                if not match_from_list(atom, settings.pprovideddict.get(atom.cp, [])):
                    yield unmet("not-installed", shown)
            elif world and is_recorded(target) and not any(found_in(kept, cpv) for cpv in matches):
                yield unmet("not-in-world", shown)


def check_decided(decided):
    for package in decided:
        cpv, repository, on, off = package["cpv"], package["repository"], set(package["on"]), set(package["off"])
        if not installed.cpv_exists(cpv):
            yield unmet("not-merged", cpv)
            continue
        iuse, use, origin = installed.aux_get(cpv, ["IUSE", "USE", "repository"])
        use = set(use.split())
        # What emerge does not show, such as flags of USE_EXPAND_HIDDEN, it has not decided.
        shown = {flag.lstrip("+-") for flag in iuse.split()} & (on | off)
        differ = sorted(flag for flag in shown if (flag in use) != (flag in on))
        if differ:
            yield unmet("flags", cpv, [flag if flag in use else "-" + flag for flag in differ])
        if repository and origin and origin != repository:
            yield unmet("repository", cpv, [origin, repository])


def ask_fulfilled(targets, world, decided):
    """`targets` are atoms and @sets, `world`: whether they are recorded there, `decided`: packages."""
    found = []
    try:
        found.extend(check_targets(targets, world))
    except (PortageException, KeyError) as error:
        found.append(unmet("unreadable", " ".join(targets), [error]))
    return found + list(check_decided(decided))


ANSWERS = {"fulfilled": ask_fulfilled}
