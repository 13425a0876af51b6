# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="A link that says which program of several has the name /usr/bin/greeting"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"
IUSE="formal +short"
REQUIRED_USE="^^ ( formal short )"

RDEPEND="
	formal? ( app-misc/greeter )
	short? ( app-misc/hello )
"

src_install() {
	dosym "$(usex formal greeter hello)" /usr/bin/greeting
}
