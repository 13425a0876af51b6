# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="A compiler in a slotted directory, to which only env.d leads, as upstream's LLVM"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}"

LICENSE="GPL-2"
SLOT="${PV%%.*}"
KEYWORDS="amd64"

src_install() {
	local dir=/usr/lib/slotted/${SLOT}
	exeinto "${dir}/bin"
	newexe - slotted-cc <<-EOF
		#!/bin/sh
		[ "\$1" != --version ] || { echo "slotted ${PV}" && exit; }
		exec ${CHOST}-gcc "\$@"
	EOF
	keepdir "${dir}/lib"
	newenvd - "60slotted-${SLOT}" <<-EOF
		PATH="${dir}/bin"
		ROOTPATH="${dir}/bin"
		LDPATH="${dir}/lib"
	EOF
}
