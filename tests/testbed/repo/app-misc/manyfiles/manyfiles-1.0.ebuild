# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="MANY_FILES small files (2000) in directories of 100, for measuring"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	local i dir
	for ((i = 0; i < ${MANY_FILES:-2000}; i++)); do
		dir=${D}/usr/share/manyfiles/$((i / 100))
		((i % 100)) || mkdir -p "${dir}" || die
		echo "file ${i}" >"${dir}/${i}" || die
	done
}
