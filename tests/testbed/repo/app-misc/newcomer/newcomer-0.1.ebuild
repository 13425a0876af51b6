# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="Not stable anywhere: emerge suggests a keyword change"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="~amd64"

src_install() {
	newbin - newcomer <<-'EOF'
		#!/bin/sh
		echo "new here"
	EOF
}
