# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="Greetings as a library; the soname, and so the sub-slot, differs between the versions"
HOMEPAGE="https://distfiles.example/"
SRC_URI="https://distfiles.example/${P}.tar.xz"

LICENSE="GPL-2"
SLOT="0/2"
KEYWORDS="~amd64"
IUSE="static-libs +utf8"

src_compile() {
	emake CC="${CHOST}-gcc" AR="${CHOST}-ar" UTF8=$(usex utf8 1 0) STATIC=$(usex static-libs 1 0)
}

src_install() {
	emake DESTDIR="${D}" LIBDIR="/usr/$(get_libdir)" STATIC=$(usex static-libs 1 0) install
	dodoc README
}
