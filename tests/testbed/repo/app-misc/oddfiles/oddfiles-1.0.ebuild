# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="Every kind of file that an archive or a copy gets wrong; tests/testbed/oddfiles.txt lists them"
HOMEPAGE="https://distfiles.example/"
SRC_URI="https://distfiles.example/${P}.tar.xz"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"

BDEPEND="sys-libs/libcap"

# Names that `strip` and QA checks do not understand are kept away from them.
RESTRICT="strip"
QA_PREBUILT="*"

src_compile() {
	emake CC="${CHOST}-gcc"
}

src_install() {
	local lib=/usr/lib/oddfiles dir

	# programs: set-id of root and of another group, capabilities set here and after merging
	dobin oddfiles
	local name
	for name in suid sgid cap cap-postinst; do
		newbin oddfiles "oddfiles-${name}"
	done
	fperms 4755 /usr/bin/oddfiles-suid
	fowners root:60 /usr/bin/oddfiles-sgid
	fperms 2755 /usr/bin/oddfiles-sgid
	fperms 0755 /usr/bin/oddfiles-cap
	setcap cap_net_raw,cap_net_bind_service+ep "${ED}/usr/bin/oddfiles-cap" || die

	# directories: kept, sticky, set-gid, private to another user (the empty one: see pkg_preinst)
	keepdir "${lib}/kept" /var/spool/oddfiles
	fperms 1777 /var/spool/oddfiles
	dodir "${lib}/setgid" "${lib}/private"
	fowners root:60 "${lib}/setgid"
	fperms 2775 "${lib}/setgid"
	echo shared >"${ED}${lib}/setgid/file" || die
	chown 0:60 "${ED}${lib}/setgid/file" || die
	fowners 1:1 "${lib}/private"
	fperms 0700 "${lib}/private"

	# files: owners, modes, names
	insinto "${lib}"
	local -A files=(
		[owner-daemon]="1:1 0640"
		[owner-high]="60000:60001 0604"
		[mode-0000]="0:0 0000"
		[mode-0444]="0:0 0444"
		["name with spaces"]="0:0 0644"
		["ünïcödé – 日本語.txt"]="0:0 0644"
		["-leading-dash"]="0:0 0644"
		["quote'\"\$and#more"]="0:0 0644"
	)
	for name in "${!files[@]}"; do
		printf '%s\n' "${name}" >"${ED}${lib}/${name}" || die
		chown -- "${files[${name}]% *}" "${ED}${lib}/${name}" || die
		chmod -- "${files[${name}]#* }" "${ED}${lib}/${name}" || die
	done
	printf 'secret\n' >"${ED}${lib}/private/file" || die
	chown 1:1 "${ED}${lib}/private/file" || die
	: >"${ED}${lib}/zero-length" || die

	# a path longer than ustar can hold
	dir=${lib}/deep
	for name in {1..9}; do
		dir+=/a-directory-name-of-some-thirty-bytes-${name}
	done
	dodir "${dir}"
	echo deep >"${ED}${dir}/file" || die

	# links: hard ones across directories, symbolic ones relative, absolute and dangling
	echo linked >"${ED}${lib}/hardlink-1" || die
	dodir "${lib}/links"
	ln "${ED}${lib}/hardlink-1" "${ED}${lib}/hardlink-2" || die
	ln "${ED}${lib}/hardlink-1" "${ED}${lib}/links/hardlink-3" || die
	dosym hardlink-1 "${lib}/symlink-relative"
	dosym /usr/bin/oddfiles "${lib}/symlink-absolute"
	dosym no-such-file "${lib}/symlink-dangling"
	dosym . "${lib}/symlink-loop"

	# 16 MiB of hole with a word at its end; an attribute
	truncate -s 16M "${ED}${lib}/sparse" || die
	printf 'end\n' | dd of="${ED}${lib}/sparse" bs=1 seek=16777212 conv=notrunc status=none || die
	echo attribute >"${ED}${lib}/xattr" || die
	python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.testbed", b"yes")' "${ED}${lib}/xattr" || die

	touch -d '2001-02-03 04:05:06 UTC' "${ED}${lib}/hardlink-1" || die
}

# EAPI 8 removes empty directories from the image before this.
pkg_preinst() {
	mkdir -m 0755 "${ED}/usr/lib/oddfiles/empty" || die
}

# Portage refuses a binary package that holds a pipe ("Device file detected"), so it is made afterwards.
pkg_postinst() {
	rm -f "${EROOT}/usr/lib/oddfiles/pipe" || die
	mkfifo -m 0622 "${EROOT}/usr/lib/oddfiles/pipe" || die
	setcap cap_net_admin+ep "${EROOT}/usr/bin/oddfiles-cap-postinst" || die
}

pkg_prerm() {
	rm -f "${EROOT}/usr/lib/oddfiles/pipe" || die
}
