# Purpose: what Portage sees of the root in which it runs, and what is said of it to people; for the files beside it.
# When:    imported by them.

from functools import cache

import portage

# Some questions set it to a package; others must not see that.
settings = portage.config(clone=portage.settings)
trees = portage.db[settings["EROOT"] if settings["EROOT"] in portage.db else portage.root]
ports = trees["porttree"].dbapi
installed = trees["vartree"].dbapi


@cache
def sets():
    from portage._sets import load_default_config

    return load_default_config(settings, trees)


def words(values, most=8):
    """So much of words for people that an answer does not get longer than what is read of one."""
    return [str(value)[:100] for value in list(values)[:most]]
