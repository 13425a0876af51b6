# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

# @ECLASS: acct-user.eclass
# @MAINTAINER:
# The gentoomuch authors
# @SUPPORTED_EAPIS: 8
# @BLURB: A package that is a user, in the words of a small stand-in.
# @DESCRIPTION:
# As upstream's eclass of this name: the user PN with the number ACCT_USER_ID in the group of its name. A second merge leaves a user that
# is there alone.

case ${EAPI} in
	8) ;;
	*) die "${ECLASS}: EAPI ${EAPI:-0} not supported" ;;
esac

DESCRIPTION="The user ${PN}"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}"
LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"
RDEPEND="acct-group/${PN}"

EXPORT_FUNCTIONS src_install pkg_preinst

# @FUNCTION: acct-user_src_install
# @DESCRIPTION:
# What systemd's tools would make it from, and the home, which is the user's.
acct-user_src_install() {
	insinto /usr/lib/sysusers.d
	newins - "acct-user-${PN}.conf" <<<"u ${PN} ${ACCT_USER_ID}:${ACCT_USER_ID} - /var/lib/${PN} -"
	keepdir "/var/lib/${PN}"
	fowners "${ACCT_USER_ID}:${ACCT_USER_ID}" "/var/lib/${PN}"
	fperms 0750 "/var/lib/${PN}"
}

# @FUNCTION: acct-user_pkg_preinst
# @DESCRIPTION:
# The user itself, unless it is there.
acct-user_pkg_preinst() {
	getent passwd "${PN}" >/dev/null || useradd ${EROOT:+--prefix "${EROOT}"} -r -u "${ACCT_USER_ID}" -g "${PN}" -M -d "/var/lib/${PN}" \
		-s /usr/sbin/nologin -c "added by portage for ${PN}" "${PN}" || die
}
