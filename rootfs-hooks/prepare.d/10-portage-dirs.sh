#!/bin/sh
# Purpose: give Portage the directories it writes to, with the owners and modes it expects, where a root lacks them.
# When:    prepare, after the Portage profile was selected and before anything is fetched.
# Inputs:  none. Directories that exist are left alone: an administrator may have chosen other modes.
set -eu

owner=root:root
if grep -q '^portage:' /etc/passwd && grep -q '^portage:' /etc/group; then
	owner=portage:portage
fi

make_dir() { # MODE OWNER PATH
	if [ ! -d "$3" ]; then
		mkdir -p "$3"
		chown "$2" "$3"
		chmod "$1" "$3"
	fi
}

make_dir 0755 root:root /var/db/pkg
make_dir 0755 root:root /var/db/repos
make_dir 0755 root:root /var/lib/portage
make_dir 0755 "$owner" /var/cache/edb
make_dir 2755 "$owner" /var/log/portage
