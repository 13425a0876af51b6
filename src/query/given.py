# Purpose: packages that are installed somewhere, perhaps not in this root, as a database that Portage's functions take.
# When:    imported by the files beside it.

from portage.dbapi.virtual import fakedbapi
from portage.exception import PortageException
from portage.versions import _pkg_str

from root import settings


def database(packages):
    """The database of `packages`, and the names of those that cannot be in one. A package has "cpv", "slot" and "repository"; its
    "values" are those of other files of Portage's own database."""
    there, unread = fakedbapi(settings=settings, exclusive_slots=False), []
    for package in packages:
        metadata = dict(package.get("values", {}), SLOT=package["slot"], repository=package["repository"])
        try:
            cpv = _pkg_str(package["cpv"], metadata=metadata, settings=settings, db=there)
        except PortageException:
            unread.append(package["cpv"])
            continue
        if hasattr(cpv, "slot_invalid"):
            unread.append(package["cpv"])
            continue
        there.cpv_inject(cpv, metadata)
    return there, unread
