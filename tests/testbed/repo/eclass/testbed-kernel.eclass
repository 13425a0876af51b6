# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

# @ECLASS: testbed-kernel.eclass
# @MAINTAINER:
# The gentoomuch authors
# @SUPPORTED_EAPIS: 8
# @BLURB: A real Linux source tree, small enough for tests.
# @DESCRIPTION:
# What sys-kernel/testbed-sources and sys-kernel/testbed-kernel have in common. Their archive was cut down when the testbed was made
# (tests/testbed/steps/linux): all of make's configuration targets work, and what can be built is little more than tinyconfig.
# The ebuild sets SRC_URI and S; S names the top directory of the archive.

case ${EAPI} in
	8) ;;
	*) die "${ECLASS}: EAPI ${EAPI:-0} not supported" ;;
esac

HOMEPAGE="https://www.kernel.org/"
LICENSE="GPL-2"
BDEPEND="
	dev-lang/perl
	dev-libs/elfutils
	sys-devel/bc
	sys-devel/bison
	sys-devel/flex
"

EXPORT_FUNCTIONS src_prepare

# @FUNCTION: testbed-kernel_src_prepare
# @DESCRIPTION:
# The distribution leaves directories out of the archive for their licence that `make clean` wants to enter.
testbed-kernel_src_prepare() {
	default
	local dir
	for dir in $(sed -n 's|^obj-.*+= *\([a-z0-9]*\)/$|\1|p' drivers/video/fbdev/Makefile); do
		dir=drivers/video/fbdev/${dir}
		[[ -e ${dir}/Makefile ]] || { mkdir -p "${dir}" && : >"${dir}/Makefile"; } || die
	done
}

# @FUNCTION: testbed-kernel_make
# @USAGE: <argument>...
# @DESCRIPTION:
# make with neither Portage's meaning of ARCH nor anything of the build's host and time.
testbed-kernel_make() {
	local -x KBUILD_BUILD_HOST=testbed KBUILD_BUILD_USER=portage KBUILD_BUILD_VERSION=1
	local -x KBUILD_BUILD_TIMESTAMP="Thu Jan  1 00:00:00 UTC 1970"
	env -u KBUILD_OUTPUT make ${MAKEOPTS} ARCH=x86_64 "$@" || die "make $*"
}
