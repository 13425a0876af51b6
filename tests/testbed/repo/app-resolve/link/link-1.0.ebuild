# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="The middle of the chain"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}"

LICENSE="testbed-EULA"
SLOT="0"
KEYWORDS="~amd64"
IUSE="left right"
REQUIRED_USE="|| ( left right )"

RDEPEND="app-misc/picky"
