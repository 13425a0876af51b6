# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="Greets as GNU hello does, and is compiled in no time"
HOMEPAGE="https://distfiles.example/"
SRC_URI="https://distfiles.example/${P}.tar.xz"

LICENSE="GPL-3+"
SLOT="0"
KEYWORDS="amd64 arm64"
# Changes nothing.
IUSE="nls"

src_compile() {
	emake CC="${CHOST}-gcc"
}

src_install() {
	dobin hello
}
