# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

# @ECLASS: testbed-kernel.eclass
# @MAINTAINER:
# The gentoomuch authors
# @SUPPORTED_EAPIS: 8
# @BLURB: A real Linux source tree, small enough for tests.
# @DESCRIPTION:
# What sys-kernel/testbed-sources and sys-kernel/testbed-kernel have in common: which part of the archive is unpacked.
# Every Kconfig and Makefile that an x86 build reads stays, so that all of make's configuration targets work; of the
# sources stays what tinyconfig and a small virtual machine need. Other symbols can be configured, but not built.
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

EXPORT_FUNCTIONS src_unpack src_prepare

# @FUNCTION: testbed-kernel_src_unpack
# @DESCRIPTION:
# Unpacks 15,000 of the archive's 84,000 entries. Directories come and go with the versions: what is not there is no fault.
testbed-kernel_src_unpack() {
	local top=${S#"${WORKDIR}/"} whole flat status=0
	whole=(
		.gitignore COPYING CREDITS Kbuild Kconfig MAINTAINERS Makefile README
		arch/{Kconfig,um/scripts,x86} block certs crypto include init io_uring ipc kernel lib mm scripts usr virt
		drivers/{acpi,base,block,cpuidle,dma-buf,idle,nvme,pci,pnp,tty,virtio}
		drivers/{char/hw_random,firmware/efi,input/keyboard/atkbd.c,input/serio,video/console}
		fs/{autofs,configfs,crypto,debugfs,devpts,efivarfs,exportfs,ext2,ext4,fat,fuse,hugetlbfs,iomap,isofs,jbd2,kernfs}
		fs/{nls,notify,overlayfs,proc,pstore,quota,ramfs,romfs,squashfs,sysfs,tracefs,verity}
		net/{802,8021q,bpf,bridge,core,dcb,dns_resolver,ethernet,ethtool,ipv4,ipv6,key,netlink,packet,sched}
		net/{strparser,switchdev,unix,xdp,xfrm} security/{bpf,integrity,keys,landlock,lockdown,yama}
		tools/{arch/x86,build,include,lib/subcmd,objtool,scripts}
	)
	# Only the files in these, not what is in directories below them.
	flat=(drivers/{char,clocksource,cpufreq,dax,firmware,input,net,rtc,thermal} fs net security tools/lib)
	local -a excluded=(include/{dt-bindings,media,sound} scripts/coccinelle tools/{perf,testing})

	flat=("${flat[@]/#/"${top}/"}")
	LC_ALL=C tar -x -f "${DISTDIR}/${A}" "${excluded[@]/#/"--exclude=${top}/"}" \
		--no-wildcards "${whole[@]/#/"${top}/"}" \
		--wildcards --no-wildcards-match-slash "${flat[@]/%/"/*.[ch]"}" \
		--wildcards-match-slash "${top}"/'[!a]*'/{Kbuild,Kconfig,Makefile}'*' "${top}/arch/*/crypto/Kconfig" 2>"${T}/unpack.log" || status=$?
	[[ ${status} == 0 ]] && return
	[[ ${status} == 2 ]] && ! grep -Ev ': Not found in archive$|^tar: Exiting with failure' "${T}/unpack.log" || die "tar: ${status}"
}

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
