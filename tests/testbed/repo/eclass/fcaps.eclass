# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

# @ECLASS: fcaps.eclass
# @MAINTAINER:
# The gentoomuch authors
# @SUPPORTED_EAPIS: 8
# @BLURB: Capabilities of files, set after merging, in the words of a small stand-in.
# @DESCRIPTION:
# As upstream's eclass of this name: each word of FILECAPS is `CAPABILITIES FILE`. Where the file system refuses, the file becomes
# set-id root instead, which is seen in the root.

case ${EAPI} in
	8) ;;
	*) die "${ECLASS}: EAPI ${EAPI:-0} not supported" ;;
esac

IUSE="+filecaps"
IDEPEND="filecaps? ( sys-libs/libcap )"

EXPORT_FUNCTIONS pkg_postinst

# @FUNCTION: fcaps_pkg_postinst
# @DESCRIPTION:
# A pair of words each: the capabilities, and the file below ${EROOT}.
fcaps_pkg_postinst() {
	local -a pairs=("${FILECAPS[@]}")
	while [[ ${#pairs[@]} -ge 2 ]]; do
		if use filecaps && setcap "${pairs[0]}" "${EROOT}/${pairs[1]}"; then
			chmod 0711 "${EROOT}/${pairs[1]}" || die
		else
			ewarn "no capabilities for ${pairs[1]}: it becomes set-id"
			chmod 4711 "${EROOT}/${pairs[1]}" || die
		fi
		pairs=("${pairs[@]:2}")
	done
}
