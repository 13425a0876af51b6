# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="A source tree with what makes diffs hard: its own git repository, CRLF, attributes, ignored files, a pipe"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}/awkward source"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_unpack() {
	mkdir -p "${S}"/vendor/.git "${S}"/.git || die
	cd "${S}" || die
	printf '[core]\n\tfsmonitor = touch /run/gentoomuch/work/pwned\n' >.git/config || die
	printf 'ref: refs/heads/main\n' | tee .git/HEAD >vendor/.git/HEAD || die
	printf '*.txt text eol=lf\n*.sh filter=evil\n*.in export-subst\n' >.gitattributes || die
	printf 'configure\n*.log\n' >.gitignore || die
	printf '#!/bin/sh\necho "$Id$" configured\n' >configure || die
	chmod 0755 configure || die
	printf 'first line\r\nsecond line\r\nthird line\r\n' >dos.txt || die
	printf 'no newline at the end' >'a file.txt' || die
	printf '\x00\x01\x02binary' >logo.bin || die
	printf 'version %s\none\ntwo\nthree\n' "${PV}" >words || die
	ln -s words link || die
	mkfifo pipe || die
	mkdir -m 0500 sealed || die
}

src_prepare() {
	printf 'prepared\n' >>words || die
	default
}

src_install() {
	insinto /usr/share/awkward
	doins words dos.txt
	[[ ! -e new ]] || doins new
}
