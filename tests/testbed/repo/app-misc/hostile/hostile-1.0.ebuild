# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="Tries in each phase what a package must not do, and installs a list of what it could"
HOMEPAGE="https://distfiles.example/"

S="${WORKDIR}"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"
IUSE="root-link"

# files/attempts.py says what is tried. FILESDIR is for src_* alone.
attempts() {
	python3 "${EBUILD%/*}/files/attempts.py" "${1}" >"${2}" || die
}

pkg_setup() {
	# A package from the pool has the list of when it was compiled, and no files beside its ebuild.
	[[ ${MERGE_TYPE} == binary ]] || attempts setup "${T}/setup"
}

src_compile() {
	attempts compile "${T}/compile"
}

src_install() {
	insinto /usr/share/hostile
	doins "${T}"/{setup,compile} "${FILESDIR}/attempts.py"
}

pkg_postinst() {
	python3 "${EROOT}/usr/share/hostile/attempts.py" postinst >"${EROOT}/usr/share/hostile/postinst" || die
	if use root-link; then
		rmdir "${EROOT}/root" 2>/dev/null || mv "${EROOT}/root" "${EROOT}/root.old" || die
		ln -s /proc/self/fd/3 "${EROOT}/root" || die
	fi
}
