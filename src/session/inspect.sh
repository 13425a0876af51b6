#!/bin/sh
# Purpose: tells what a binary package pool depends on, as far as Portage does not know it: the toolchain's versions.
# When:    in a session whose configuration is complete, before anything is built; started by the question to Portage for the rest.
# Inputs:  `ccache`, to be told about that, too. Output: NAME=VALUE lines on standard output.
set -u

first_line() {
    "$@" 2>/dev/null | { IFS= read -r line && printf '%s' "$line"; }
}

printf 'VERSION_CC=%s\n' "$(first_line cc -dumpfullversion)"
# No part of the pool's key: what make is called by decides nothing about a package.
printf 'MAKE_IS=%s\n' "$(first_line make --version)"

[ "${1-}" = ccache ] || exit 0
printf 'CCACHE_VERSION=%s\n' "$(first_line ccache --version)"
# Where Portage looks, too.
for dir in /usr/lib64/ccache /usr/lib/ccache /usr/libexec/ccache; do
    [ ! -d "$dir/bin" ] || dir=$dir/bin
    [ -d "$dir" ] || continue
    printf 'CCACHE_LINKS=%s\n' "$dir"
    break
done
# What the compiler runs. It is all that is known of it where no package has installed it.
programs() {
    for name in cc1 cc1plus as; do
        path=$(command -v "$(cc -print-prog-name="$name" 2>/dev/null)") || continue
        printf '%s\n' "$path"
        cat "$path"
    done
}
printf 'CCACHE_TOOLCHAIN=%s\n' "$(programs | sha256sum | cut -d' ' -f1)"
# Lists of files, with their checksums: they change when a compiler does, also in the middle of a session.
files=
for package in /var/db/pkg/sys-devel/gcc-[0-9]* /var/db/pkg/sys-devel/binutils-[0-9]* /var/db/pkg/cross-*/* \
    /var/db/pkg/llvm-core/* /var/db/pkg/sys-devel/clang-[0-9]* /var/db/pkg/sys-devel/llvm-[0-9]*; do
    [ ! -f "$package/CONTENTS" ] || files=$files:$package/CONTENTS
done
printf 'CCACHE_FILES=%s\n' "${files#:}"
