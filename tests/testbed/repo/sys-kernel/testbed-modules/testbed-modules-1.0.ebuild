# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="A kernel module from outside the kernel's tree"
HOMEPAGE="https://distfiles.example/"
SRC_URI="https://distfiles.example/${P}.tar.xz"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"
RESTRICT="binchecks"

# As linux-mod-r1.eclass: the kernel in KERNEL_DIR, built in KBUILD_OUTPUT if that is not the same.
pkg_setup() {
	local dir=${KERNEL_DIR:-/usr/src/linux}
	KV_OUT_DIR=${KBUILD_OUTPUT:-${dir}}
	[[ -e ${dir}/Makefile ]] || die "${dir}: kernel sources are required to build kernel modules"
	[[ -f ${KV_OUT_DIR}/Module.symvers ]] || die "${KV_OUT_DIR}/Module.symvers was not found: the kernel has to be built first"
	KV_FULL=$(<"${KV_OUT_DIR}/include/config/kernel.release") || die
	elog "Building for ${KV_FULL} in ${KV_OUT_DIR}"
}

src_compile() {
	env -u KBUILD_OUTPUT make ${MAKEOPTS} ARCH=x86 -C "${KV_OUT_DIR}" M="${S}" modules || die
}

src_install() {
	dostrip -x /lib/modules
	insinto "/lib/modules/${KV_FULL}/extra"
	doins testbed_greeting.ko
}

pkg_postinst() {
	depmod -b "${EROOT:-/}" "${KV_FULL}" || die
}
