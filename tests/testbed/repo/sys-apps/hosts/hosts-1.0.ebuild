# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="Owns /etc/hosts, as upstream's baselayout does, and replaces it when it is merged"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	insinto /etc
	newins - hosts <<-EOF
		127.0.0.1	localhost hosts-${PV}
		::1	localhost
	EOF
}
