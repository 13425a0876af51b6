# Purpose: enters the build directory of a package that failed, in the environment that `ebuild` has there.
# When:    in a session of its own for work by hand, on top of the one in which the build failed.
# Inputs:  the build directory, the package (category/name-version), the phase that failed; `user` (as Portage runs the phase) or `root`;
#          `shell` or `again`; for `shell` perhaps a command and its arguments.
#
# Only what is in this session is read or run, whoever wrote it: neither is outside of the sandbox.

import os
import sys

import portage
import portage.data
from portage.package.ebuild.doebuild import doebuild_environment

# The phases that Portage runs as the user `portage` (doebuild.py).
UNPRIVILEGED = ("unpack", "prepare", "configure", "compile", "test")
# Variables of whoever sits in front of the terminal.
OURS = ("TERM", "LANG", "NO_COLOR")
RC = os.path.join(os.path.dirname(__file__), "enter.bash")

build, cpv, phase, user, what, *command = sys.argv[1:]
porttree = portage.db[portage.settings["EROOT"]]["porttree"].dbapi


def ebuild_of():
    # The link `files` says in which repository emerge has found it.
    try:
        place = os.path.dirname(os.readlink(os.path.join(build, "files")))
    except OSError:
        place = ""
    found = os.path.join(place, cpv.split("/")[1] + ".ebuild")
    return found if os.path.exists(found) else porttree.findname(cpv)


ebuild = ebuild_of()
if ebuild is None:
    sys.exit(f"no tree has an ebuild of {cpv} any more")
if what == "again":
    if phase == "test":
        os.environ["FEATURES"] = os.environ.get("FEATURES", "") + " test"
    os.execvp("ebuild", ["ebuild", ebuild, phase])

settings = portage.config(clone=portage.settings)
doebuild_environment(ebuild, phase, settings=settings, db=porttree)
environment = settings.environ()
environment.update({name: os.environ[name] for name in OURS if name in os.environ})
environment["GENTOOMUCH_BUILD_DIR"] = build
restrict = set(settings.get("PORTAGE_RESTRICT", "").split())
drops = phase in UNPRIVILEGED and "userpriv" in settings.features and not restrict & {"userpriv", "nouserpriv"}
if user == "user" and drops:
    os.setgroups(portage.data.userpriv_groups)
    os.setgid(portage.data.portage_gid)
    os.setuid(portage.data.portage_uid)
os.chdir(build)
sys.stdout.flush()
if command:
    argv = ["bash", "-c", '. "$0"; "$@"', RC, *command]
else:
    argv = ["bash", "--rcfile", RC, "-i"]
os.execvpe("bash", argv, environment)
