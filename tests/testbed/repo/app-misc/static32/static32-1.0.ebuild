# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="A static i386 program: a filter of system calls and a preloaded library treat it in their own way"
HOMEPAGE="https://distfiles.example/"
S="${WORKDIR}"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

src_compile() {
	# Without a 32-bit libc, which the distribution's base has not.
	cat >static32.S <<-'END' || die
		.globl _start
		_start:
			movl $4, %eax
			movl $1, %ebx
			movl $text, %ecx
			movl $5, %edx
			int $0x80
			movl $1, %eax
			xorl %ebx, %ebx
			int $0x80
		.section .rodata
		text:	.ascii "i386\n"
		.section .note.GNU-stack,"",@progbits
	END
	"${CHOST}-gcc" -m32 -nostdlib -static -o static32 static32.S || die
	[[ $(./static32) == i386 ]] || die "it does not run in the build"
}

src_install() {
	dobin static32
}
