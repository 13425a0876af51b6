# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="Has a licence that the profile does not accept: a licence change"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}"

LICENSE="testbed-EULA"
SLOT="0"
KEYWORDS="amd64"
