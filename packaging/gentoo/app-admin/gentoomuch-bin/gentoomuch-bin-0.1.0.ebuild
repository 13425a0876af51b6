# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

MY_P="gentoomuch-${PV}"

DESCRIPTION="Daemonless, rootless builder of Gentoo systems, as a static program compiled elsewhere"
# It has no page of its own yet: this one says what it makes.
HOMEPAGE="https://wiki.gentoo.org/wiki/Stage_file"
SRC_URI="${MY_P}-linux-amd64.tar.xz"
S="${WORKDIR}/${MY_P}-linux-amd64"

# What is linked into the program: see app-admin/gentoomuch.
LICENSE="GPL-2+ Apache-2.0 BSD ISC MIT Unicode-3.0 ZLIB"
SLOT="0"
KEYWORDS="-* ~amd64"

# `make dist` makes the archive.
RESTRICT="fetch strip"

# newuidmap; gpg signs what is made; git brings trees
RDEPEND="
	!app-admin/gentoomuch
	app-crypt/gnupg
	dev-vcs/git
	sys-apps/shadow
"

QA_PREBUILT="usr/bin/gentoomuch"

pkg_nofetch() {
	einfo "Make ${MY_P}-linux-amd64.tar.xz by \`make dist\` in a checkout of gentoomuch,"
	einfo "and copy it from target/dist into your DISTDIR."
}

src_install() {
	insinto /
	doins -r usr
	fperms 0755 /usr/bin/gentoomuch
	mv "${ED}/usr/share/doc/gentoomuch" "${ED}/usr/share/doc/${PF}" || die
	rm "${ED}/usr/share/doc/${PF}/LICENSE" || die
}
