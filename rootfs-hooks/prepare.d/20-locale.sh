#!/bin/sh
# Purpose: generate the locales that /etc/locale.gen asks for, if some are missing: builds that sort or check UTF-8 differ without.
# When:    prepare, so that the rebuild of world already has them.
# Inputs:  /etc/locale.gen. Roots without it or without locale-gen (musl) are left alone.
set -eu

[ -f /etc/locale.gen ] || exit 0
command -v locale-gen >/dev/null 2>&1 || exit 0
command -v locale >/dev/null 2>&1 || exit 0

# `locale -a` writes de_DE.utf8 for de_DE.UTF-8.
spelling() { sed 's/UTF-8/utf8/; s/ISO-8859/iso8859/'; }

have=$(locale -a 2>/dev/null || true)
missing=$(
	sed -n 's/^[[:space:]]*\([A-Za-z_]*\.[A-Za-z0-9-]*\)[[:space:]].*/\1/p' /etc/locale.gen | while read -r wanted; do
		printf '%s\n' "$have" | grep -qxF -e "$(printf '%s\n' "$wanted" | spelling)" || printf ' %s' "$wanted"
	done
)
[ -n "$missing" ] || exit 0
echo "generating locales:$missing"
locale-gen
