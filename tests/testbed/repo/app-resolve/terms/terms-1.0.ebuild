# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="Its licence depends on a flag, and on flags that every package has"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}"

LICENSE="|| ( both? ( MIT BSD-2 ) BSD-2 ) elibc_glibc? ( GPL-3 ) !kernel_linux? ( testbed-EULA ) !amd64? ( testbed-EULA )"
SLOT="0"
KEYWORDS="amd64"
IUSE="+both"
