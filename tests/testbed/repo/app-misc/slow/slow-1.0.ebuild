# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="Takes its time: SLOW_UNITS C files (300), SLOW_SECONDS of sleep (0), SLOW_TIMED, for interruptions"
HOMEPAGE="https://distfiles.example/"
SRC_URI="https://distfiles.example/${P}.tar.xz"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"
# Changes nothing: to have it built again.
IUSE="again"

src_configure() {
	sh ./generate "${SLOW_UNITS:-300}" || die
}

src_compile() {
	sleep "${SLOW_SECONDS:-0}" || die
	emake CC="${CHOST}-gcc" TIMED="${SLOW_TIMED:+./timed}"
}

src_install() {
	dobin slow
}
