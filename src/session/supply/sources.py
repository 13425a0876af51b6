# Purpose: says which source archives packages need with the flags that they would be built with, and what their ebuilds say of them.
# When:    where no metadata cache says it, and where a build must not begin before all is known to be there.
# Inputs:  argv[1], a JSON file {"packages": [["category/name-version", "repository"], …], "files": bool}.
# Output:  a line "@gentoomuch {JSON}" for each package.

import json
import sys

import portage

root = portage.settings["EROOT"] if portage.settings["EROOT"] in portage.db else portage.root
ports = portage.db[root]["porttree"].dbapi
settings = portage.config(clone=portage.settings)


def about(cpv, repository, files):
    """What the ebuild says; nothing of one that cannot be read."""
    keys = sorted({*ports._aux_cache_keys, "SRC_URI", "RESTRICT"})
    try:
        metadata = dict(zip(keys, ports.aux_get(cpv, keys, myrepo=repository)))
        found = {"src_uri": metadata["SRC_URI"], "restrict": metadata["RESTRICT"]}
        if files:
            settings.setcpv(cpv, mydb=dict(metadata, repository=repository))
            use = settings["PORTAGE_USE"].split()
            tree = settings.repositories.get_location_for_name(repository)
            found["files"] = sorted(ports.getFetchMap(cpv, useflags=use, mytree=tree))
    except (KeyError, portage.exception.PortageException) as error:
        print(f"{cpv}::{repository}: {error}", file=sys.stderr)
        return {}
    return found


with open(sys.argv[1], encoding="utf-8") as file:
    request = json.load(file)
for cpv, repository in request["packages"]:
    found = about(cpv, repository, request["files"])
    print("@gentoomuch " + json.dumps({"cpv": cpv, "repository": repository, **found}), flush=True)
