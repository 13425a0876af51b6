# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="Does not compile: an undeclared variable in broken.c, line 5"
HOMEPAGE="https://distfiles.example/"
SRC_URI="https://distfiles.example/${P}.tar.xz"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_compile() {
	emake CC="${CHOST}-gcc"
}

src_install() {
	dobin broken
}
