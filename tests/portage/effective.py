#!/usr/bin/env python3
"""What Portage makes of whole directories shaped like /etc/portage, as JSON. Runs in a session, as root.

    effective.py PLACE [NAME…]       each PLACE/NAME is such a directory

For each: variables, and for every package of the tree its flags, keywords, licences, masks and settings of
`package.env`. The name `(none)` is Portage without any; `(portage)` is what Portage knows by itself.
"""

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile

import portage
from portage.const import INCREMENTALS
from portage.package.ebuild.config import config

LISTS = ["ACCEPT_KEYWORDS", "ACCEPT_LICENSE", "ACCEPT_PROPERTIES", "ACCEPT_RESTRICT", "CONFIG_PROTECT", "CONFIG_PROTECT_MASK", "FEATURES", "USE"]
SINGLE = ["CFLAGS", "CXXFLAGS", "FCFLAGS", "FFLAGS", "COMMON_FLAGS", "LDFLAGS", "MAKEOPTS", "EMERGE_DEFAULT_OPTS", "GENTOO_MIRRORS", "GREETING", "QUOTED"]
EXPANDED = ["CPU_FLAGS_X86", "L10N", "VIDEO_CARDS"]


def package(settings, portdb, cpv):
    keys = ["SLOT", "KEYWORDS", "LICENSE", "IUSE", "repository", "EAPI", "PROPERTIES", "RESTRICT", "DEFINED_PHASES", "REQUIRED_USE"]
    metadata = dict(zip(keys, portdb.aux_get(cpv, keys)))
    settings.setcpv(cpv, mydb=metadata)
    return {
        "use": sorted(settings["PORTAGE_USE"].split()),
        "missing_keywords": sorted(settings._getMissingKeywords(cpv, metadata) or []),
        "missing_licenses": sorted(settings._getMissingLicenses(cpv, {**metadata, "USE": settings["PORTAGE_USE"]}) or []),
        "mask": str(settings._getMaskAtom(cpv, metadata)),
        "cflags": settings.get("CFLAGS"),
        "features": sorted(settings.get("FEATURES", "").split()),
        "accept_restrict": sorted(settings._accept_restrict),
    }


def read(portdb, directory):
    with tempfile.TemporaryDirectory() as root:
        target = os.path.join(root, "etc/portage")
        if directory is None:
            os.makedirs(target)
        else:
            shutil.copytree(directory, target)
        os.symlink(os.path.realpath("/etc/portage/make.profile"), os.path.join(target, "make.profile"))
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            settings = config(config_root=root, target_root="/", local_config=True)
            values = {name: settings.get(name) for name in LISTS + SINGLE + EXPANDED}
            packages = {cpv: package(settings, portdb, cpv) for cp in portdb.cp_all() for cpv in portdb.cp_list(cp)}
        return {"variables": values, "packages": packages, "says": [line for line in said.getvalue().splitlines() if line.strip()]}


def main(place, names):
    portdb = portage.db[portage.root]["porttree"].dbapi
    result = {name: read(portdb, os.path.join(place, name)) for name in names}
    result["(none)"] = read(portdb, None)
    settings = portage.settings
    result["(portage)"] = {"version": portage.VERSION, "incrementals": sorted(INCREMENTALS), "use_expand": sorted(settings["USE_EXPAND"].split())}
    json.dump(result, sys.stdout, indent=1, sort_keys=True)


main(sys.argv[1], sys.argv[2:])
