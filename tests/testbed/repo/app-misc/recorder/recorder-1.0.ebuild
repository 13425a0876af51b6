# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="Writes down what it was built with, as it saw it: CC, flags, EXTRA_ECONF, FEATURES, USE, and its text after all patches"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"
IUSE="color +nls"

src_unpack() {
	echo unpatched >text || die
}

src_install() {
	local name
	for name in CC CFLAGS CXXFLAGS LDFLAGS EXTRA_ECONF FEATURES; do
		echo "${name}=${!name-(unset)}"
	done >record || die
	echo "USE=$(usev color)$(usev nls)" >>record || die
	echo "text=$(<text)" >>record || die
	insinto /usr/share/recorder
	doins record
}
