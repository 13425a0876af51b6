# Purpose: says of which of the given atoms Portage would take a version.
# When:    while a builder is updated, before what was made from something else is built again.
# Inputs:  atoms, `=category/name-version::repository`.
# Output:  a line "@gentoomuch ATOM" for each of them.

import sys

from portage.dep import Atom

from visible import ports

for text in sys.argv[1:]:
    if ports.xmatch("match-visible", Atom(text, allow_repo=True)):
        print("@gentoomuch " + text)
