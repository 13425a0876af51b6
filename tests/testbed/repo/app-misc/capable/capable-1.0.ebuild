# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

inherit fcaps

DESCRIPTION="A program with capabilities, and files of a user that a package makes"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

DEPEND="acct-user/testbedder"
RDEPEND="${DEPEND}"

FILECAPS=(cap_net_raw+ep usr/bin/capable)

src_compile() {
	echo 'int main(void) { return 0; }' >capable.c || die
	"${CHOST}-gcc" ${CFLAGS} ${LDFLAGS} -o capable capable.c || die
}

src_install() {
	dobin capable
	insinto /var/lib/testbedder
	newins - owned <<<"the user's"
	fowners testbedder:testbedder /var/lib/testbedder/owned
	fperms 0640 /var/lib/testbedder/owned
}
