# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

# @ECLASS: acct-group.eclass
# @MAINTAINER:
# The gentoomuch authors
# @SUPPORTED_EAPIS: 8
# @BLURB: A package that is a group, in the words of a small stand-in.
# @DESCRIPTION:
# As upstream's eclass of this name: the group PN with the number ACCT_GROUP_ID, made before anything of it is merged.

case ${EAPI} in
	8) ;;
	*) die "${ECLASS}: EAPI ${EAPI:-0} not supported" ;;
esac

DESCRIPTION="The group ${PN}"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}"
LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

EXPORT_FUNCTIONS src_install pkg_preinst

# @FUNCTION: acct-group_src_install
# @DESCRIPTION:
# What systemd's tools would make it from.
acct-group_src_install() {
	insinto /usr/lib/sysusers.d
	newins - "acct-group-${PN}.conf" <<<"g ${PN} ${ACCT_GROUP_ID}"
}

# @FUNCTION: acct-group_pkg_preinst
# @DESCRIPTION:
# The group itself, unless it is there.
acct-group_pkg_preinst() {
	getent group "${PN}" >/dev/null || groupadd ${EROOT:+--prefix "${EROOT}"} -r -g "${ACCT_GROUP_ID}" "${PN}" || die
}
