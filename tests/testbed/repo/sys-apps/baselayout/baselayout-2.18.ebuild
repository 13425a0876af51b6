# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="What makes the distribution's base system look like Gentoo; the system set"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	insinto /etc
	newins - gentoo-release <<<"Gentoo Base System release ${PV}"
	# The distribution's linker finds its own directories by itself, but env-update owns ld.so.conf.
	newenvd - 50baselayout <<-EOF
		PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin"
		ROOTPATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin"
		LDPATH="/usr/local/lib"
		CONFIG_PROTECT_MASK="/etc/gentoo-release /etc/terminfo"
	EOF
	insinto /usr/lib
	newins - os-release <<-EOF
		NAME=Gentoo
		ID=gentoo
		PRETTY_NAME="Gentoo testbed"
		VERSION_ID="${PV}"
	EOF
	dosym ../usr/lib/os-release /etc/os-release
}
