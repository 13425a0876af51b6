# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="GNU make with named pipes for its job server, which the distribution's may be too old for"
HOMEPAGE="https://www.gnu.org/software/make/"
SRC_URI="https://distfiles.example/${P}.whl"
S="${WORKDIR}"

LICENSE="GPL-3+"
SLOT="0"
KEYWORDS="amd64"

src_unpack() {
	python3 -m zipfile -e "${DISTDIR}/${P}.whl" "${WORKDIR}" || die
}

src_compile() { :; }

src_install() {
	# In the place of the distribution's, which no package owns.
	dobin ${P}.data/scripts/make
}
