# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

# @ECLASS: savedconfig.eclass
# @MAINTAINER:
# The gentoomuch authors
# @SUPPORTED_EAPIS: 8
# @BLURB: A configuration file of the user's instead of the package's, in the words of a small stand-in.
# @DESCRIPTION:
# As upstream's eclass of this name: with USE=savedconfig, `restore_config FILE` takes FILE from /etc/portage/savedconfig, and
# `save_config FILE` has the package itself install it there, under its full name.

case ${EAPI} in
	8) ;;
	*) die "${ECLASS}: EAPI ${EAPI:-0} not supported" ;;
esac

IUSE="savedconfig"

EXPORT_FUNCTIONS pkg_postinst

# @FUNCTION: restore_config
# @USAGE: <file>
# @DESCRIPTION:
# The most special name that the user has saved wins: of this build, of this version, of any.
restore_config() {
	use savedconfig || return 0
	local base=${PORTAGE_CONFIGROOT%/}/etc/portage/savedconfig name dir
	for name in "${PF}" "${P}" "${PN}"; do
		for dir in ${CTARGET:+"${base}/${CTARGET}"} "${base}/${CHOST}" "${base}"; do
			if [[ -f ${dir}/${CATEGORY}/${name} ]]; then
				elog "Building using saved configfile \"${dir}/${CATEGORY}/${name}\""
				cp -- "${dir}/${CATEGORY}/${name}" "$1" || die
				return
			fi
		done
	done
	ewarn "No saved config to restore for ${CATEGORY}/${PN}"
}

# @FUNCTION: save_config
# @USAGE: <file>
# @DESCRIPTION:
# What it was built with, for the user to begin from.
save_config() {
	insinto "/etc/portage/savedconfig/${CATEGORY}"
	newins "$1" "${PF}"
}

# @FUNCTION: savedconfig_pkg_postinst
# @DESCRIPTION:
# Files that the user may have changed outlive the package: Portage removes only what has the time it was merged with.
savedconfig_pkg_postinst() {
	use savedconfig || return 0
	find "${EROOT}/etc/portage/savedconfig/${CATEGORY}/${PF}" -exec touch {} + || die
}
