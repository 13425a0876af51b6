# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="Needs a static library that is off by default: emerge suggests a USE change"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

DEPEND="dev-libs/greet[static-libs]"

src_compile() {
	cat >picky.c <<-'EOF' || die
		#include <stdio.h>
		#include <greet.h>
		int main(void) { puts(greet_word()); return 0; }
	EOF
	"${CHOST}-gcc" ${CFLAGS} ${LDFLAGS} -o picky picky.c -l:libgreet.a || die
}

src_install() {
	dobin picky
}
