#!/bin/sh
# Purpose: say which libraries Portage still preserves for programs that were not rebuilt against their successors. They are a sign
#          that a rebuild is due (`emerge @preserved-rebuild`), and would otherwise go unnoticed into every stage of this base.
# When:    after-world.
# Inputs:  /var/lib/portage/preserved_libs_registry, Portage's own record.
set -eu

registry=/var/lib/portage/preserved_libs_registry
[ -s "$registry" ] || exit 0
libraries=$(grep -o '"/[^"]*"' "$registry" | sort -u || true)
[ -n "$libraries" ] || exit 0
echo "libraries that are preserved for programs not rebuilt yet:"
echo "$libraries" | sed 's/^/  /'
