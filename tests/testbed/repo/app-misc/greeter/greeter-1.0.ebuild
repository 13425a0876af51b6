# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="An application of dev-libs/greet, rebuilt when its sub-slot changes"
HOMEPAGE="https://distfiles.example/"
SRC_URI="https://distfiles.example/${P}.tar.xz"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"
IUSE="+ascii color hardened json"
REQUIRED_USE="|| ( ascii color ) json? ( !color )"

RDEPEND="dev-libs/greet:=[utf8]"
DEPEND="${RDEPEND}"
BDEPEND="virtual/pkgconfig"

src_compile() {
	emake CC="${CHOST}-gcc" PKG_CONFIG="${CHOST}-pkg-config" ASCII=$(usex ascii 1 0) COLOR=$(usex color 1 0) \
		JSON=$(usex json 1 0) HARDENED=$(usex hardened 1 0)
}

src_install() {
	dobin greeter
	insinto /etc
	doins greeter.conf
}
