# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

inherit savedconfig

DESCRIPTION="Is built from a configuration file of the user's, and installs it where the user keeps those"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_configure() {
	echo "ANSWER=default" >config || die
	restore_config config
}

src_install() {
	insinto /usr/share/configured
	doins config
	save_config config
}
