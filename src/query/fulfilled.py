# Purpose: holds what is installed against what emerge was asked for, and what it had decided.
# When:    asked after a run of emerge that ended well, in the same session.
# Answers: {"unmet": […], "news": […], "pending_config": […]}. Unmet is a list of {"problem": …, "target": …, "details": […]}, of all that is
#          otherwise. The others are what emerge tells its user in the end, but it is asked here, so that nothing is written in this root.

import os
import re

from portage.const import NEWS_LIB_PATH
from portage.dep import Atom, match_from_list
from portage.exception import PortageException
from portage.news import NewsItem, NewsManager
from portage.util import grabfile

from root import installed, ports, sets, settings, words

# Of a kind; nobody reads more.
MOST = 100


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
    return {"unmet": found + list(check_decided(decided)), "news": news(), "pending_config": pending_config()}


def unread(manager, repository):
    """Paths of the items of a tree that Portage counts as unread: those it has on its list, and those it would put there now."""
    directory = manager._news_dir(repository)
    listed = set(grabfile(manager._unread_filename(repository)))
    seen = set(grabfile(manager._skip_filename(repository)))
    for name in sorted(os.listdir(directory), reverse=True):
        path = os.path.join(directory, name, name + ".en.txt")
        if not os.path.isfile(path) or (name in seen and name not in listed):
            continue
        about = {"profile": manager._profile_path, "config": manager.config, "vardb": manager.vdb}
        try:
            item = NewsItem(path, name)
            wanted = name in listed or item.isValid() and item.isRelevant(**about)
        except Exception:
            # One item of a tree hides no other.
            continue
        if wanted:
            yield name, path


def title_of(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        head = file.read(4096)
    title = re.search("^Title:(.*)$", head, re.MULTILINE)
    return title.group(1).strip() if title else ""


def news():
    """Told to the user and asked for by nobody, by names of Portage that are its own: whatever goes wrong here fails no build."""
    found = []
    try:
        manager = NewsManager(ports, installed, os.path.join("metadata", "news"), os.path.join(settings["EROOT"], NEWS_LIB_PATH, "news"))
        for repository in ports.getRepositories():
            try:
                for name, path in unread(manager, repository):
                    found.append({"repository": repository, "name": name[:100], "title": title_of(path)[:200]})
            except (OSError, PortageException):
                # Most trees have no news.
                continue
    except Exception as error:
        print(f"news of the trees cannot be read: {error!r}")
    return sorted(found, key=lambda item: item["name"], reverse=True)[:MOST]


def pending_config():
    """Updates of configuration files that nobody has merged yet, as `dispatch-conf` finds them."""
    found = []
    for directory, _, names in os.walk(os.path.join(settings["EROOT"], "etc")):
        found.extend(os.path.join(directory, name)[:200] for name in names if re.match(r"\._cfg[0-9]{4}_.", name))
    return sorted(found)[:MOST]


ANSWERS = {"fulfilled": ask_fulfilled}
