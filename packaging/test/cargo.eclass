# Copyright 2026 The gentoomuch authors
# Distributed under the terms of the GNU General Public License v2

# @ECLASS: cargo.eclass
# @MAINTAINER:
# The gentoomuch authors
# @SUPPORTED_EAPIS: 8
# @BLURB: Stands in for Gentoo's where there is no Rust: the program is given, all else is done.
# @DESCRIPTION:
# The crates are fetched and checked, but neither unpacked nor compiled: a program from PREBUILT is put where cargo would put it.

case ${EAPI} in
	8) ;;
	*) die "${ECLASS}: EAPI ${EAPI:-0} not supported" ;;
esac

[[ -n ${RUST_MIN_VER} ]] || die "${ECLASS}: RUST_MIN_VER is not set before it is inherited"
IUSE="debug"

CARGO_CRATE_URIS=
for _crate in ${CRATES}; do
	CARGO_CRATE_URIS+="https://distfiles.example/${_crate%@*}/${_crate##*@} -> ${_crate%@*}-${_crate##*@}.crate "
done
unset _crate

EXPORT_FUNCTIONS src_unpack src_compile

cargo_target_dir() {
	echo "target/$(usex debug debug release)"
}

cargo_src_unpack() {
	local archive
	for archive in ${A}; do
		[[ ${archive} == *.crate ]] || unpack "${archive}"
	done
}

cargo_src_compile() {
	mkdir -p "$(cargo_target_dir)" || die
	cp "${PREBUILT:?}" "$(cargo_target_dir)/gentoomuch" || die
}
