# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="Its REQUIRED_USE is not met by its defaults: three flags have to change"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"
IUSE="editline fastcgi +gnutls +openssl readline +web wsgi"
REQUIRED_USE="^^ ( readline editline ) ?? ( openssl gnutls ) web? ( || ( wsgi fastcgi ) )"
