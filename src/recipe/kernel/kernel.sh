#!/bin/bash
# Purpose: asks about kernel sources, makes a kernel from them, and puts apart what a stage4 gets of it.
# When:    in sessions of `gentoomuch kernel`, and of stage4s that have a kernel.
# Inputs:  a word for what to do and its arguments; JOBS and MAKEFLAGS in the environment for what compiles.
#          Output of questions: NAME=VALUE lines.
set -eu -o pipefail
umask 022
export KBUILD_BUILD_USER=gentoomuch KBUILD_BUILD_HOST=gentoomuch KBUILD_BUILD_VERSION=1

# What has no dracut says so by this exit code.
no_dracut=90

# When the sources were released, as far as their own files tell: those that nobody patches.
release_time() {
    local file
    for file in MAINTAINERS CREDITS COPYING README Kbuild; do
        [ -e "$file" ] && { LC_ALL=C date -u -r "$file"; return; }
    done
    LC_ALL=C date -u -d @0
}

make_here() {
    KBUILD_BUILD_TIMESTAMP=$(release_time) make "$@"
}

# resolve ATOM: the package that would be installed for it, and its USE flags.
resolve() {
    local package
    package=$(portageq best_visible / ebuild "$1" 2>/dev/null) || return 0
    [ -n "$package" ] || return 0
    printf 'PACKAGE=%s\n' "$package"
    printf 'IUSE=%s\n' "$(portageq metadata / ebuild "$package" IUSE 2>/dev/null)"
}

# Which kernels a package brings along ready-made.
built() {
    sed -n 's:^\(dir\|obj\|sym\) \(/usr\)\{0,1\}/lib/modules/\([^/ ]*\).*:\3:p' "/var/db/pkg/$1/CONTENTS" | sort -u | sed -n 1p
}

# examine PACKAGE: where its sources lie, what they are, and whether it brings a kernel.
examine() {
    local contents=/var/db/pkg/$1/CONTENTS
    printf 'TREE=%s\n' "$(sed -n 's:^obj \(/usr/src/[^/ ]*\)/Makefile .*:\1:;T;p;q' "$contents")"
    printf 'BUILT=%s\n' "$(built "$1")"
    # Paths and checksums, without the times at which they were installed.
    printf 'CONTENTS=%s\n' "$(sed '/^dir /!s: [0-9]*$::' "$contents" | sha256sum | cut -d' ' -f1)"
}

# configure TREE FILE: the configuration as these sources complete it.
configure() {
    cd "$1"
    cp "$2" .config
    make olddefconfig
}

# options TREE: all that there are, `p` for those that somebody can choose.
options() {
    cd "$1"
    # shellcheck disable=SC2016  # these are awk's
    find . -name 'Kconfig*' -type f -print0 | xargs -0 awk '
        /^[ \t]*(menu)?config[ \t]+[A-Za-z0-9_]+/ { name = $2; if (!(name in kind)) kind[name] = "d"; next }
        /^[ \t]*(choice|menu|comment|if|source|end)/ { name = "" }
        name != "" && /^[ \t]+(bool|tristate|string|int|hex|prompt)[ \t]+["\047]/ { kind[name] = "p" }
        END { for (name in kind) print kind[name], name }'
}

compile() {
    local log=.gentoomuch.log
    cd "$1"
    if make_here ${JOBS:+-j"$JOBS"} all 2>&1 | tee "$log"; then
        rm -f "$log"
        return
    fi
    # With several jobs the cause is long past when make ends.
    printf '\n%s\n' '--- what failed first:'
    grep -m 3 -A 5 -E '(^|[ :])(fatal )?error: |[Nn]o rule to make target|: not found|No such file or directory|[Cc]annot open' "$log" | head -n 18 || true
    grep -m 1 -E '\*\*\* .*(Error|Stop)' "$log" || true
    return 1
}

# release TREE: what this kernel calls itself.
release() {
    cd "$1"
    printf 'RELEASE=%s\n' "$(make -s kernelrelease)"
    printf 'IMAGE=%s\n' "$(make -s image_name)"
}

# What other kernel modules are compiled against: the choice of the kernel's own scripts/package/install-extmod-build.
devel() {
    local tree=$1 arch=$2 target=$3/usr/src
    mkdir -p "$target/${tree##*/}"
    ln -sfn "${tree##*/}" "$target/linux"
    cd "$tree"
    {
        find . \( -name .git -o -name Documentation \) -prune -o -type f \( -name 'Makefile*' -o -name 'Kconfig*' -o -name 'Kbuild*' \) -print
        find include scripts "arch/$arch/include" tools/objtool tools/include tools/build tools/scripts \
            \( -type f -o -type l \) ! -name '*.o' ! -name '*.cmd' 2>/dev/null || true
        find "arch/$arch" -type f \( -name '*.lds' -o -name Platform -o -name '*.tbl' \) || true
        find .config Module.symvers System.map -maxdepth 0 2>/dev/null || true
    } | sed 's:^\./::' | sort -u | tar --no-recursion -cf - -T - | tar -xf - -C "$target/${tree##*/}"
    chown -R root:root "$target"
}

# What a kernel's modules depend on, wherever depmod looks for them.
dependencies() {
    local payload=$1 release=$2 map=$3
    command -v depmod >/dev/null || return 0
    ln -s usr/lib "$payload/lib"
    depmod -a -F "$map" -b "$payload" "$release"
    rm "$payload/lib"
}

# Told before anything is compiled.
need_dracut() {
    command -v dracut >/dev/null || exit "$no_dracut"
}

# initramfs PAYLOAD RELEASE FILE: FILE holds arguments of dracut, one a line.
initramfs() {
    local payload=$1 release=$2 arguments
    mapfile -t arguments <"$3"
    mkdir -p /usr/lib/modules
    rm -rf "/usr/lib/modules/$release"
    cp -a "$payload/usr/lib/modules/$release" /usr/lib/modules/
    SOURCE_DATE_EPOCH=$(stat -c %Y "$payload/boot/vmlinuz-$release") dracut --force --no-hostonly --reproducible \
        "${arguments[@]}" "$payload/boot/initramfs-$release.img" "$release"
}

# install TREE PAYLOAD DEVEL
install_built() {
    local tree=$1 payload=$2 devel=$3 release image arch
    cd "$tree"
    release=$(make -s kernelrelease)
    image=$(make -s image_name)
    arch=${image#arch/}
    arch=${arch%%/*}
    mkdir -p "$payload/boot" "$payload/usr/lib/modules/$release"
    if grep -q '^CONFIG_MODULES=y' .config; then
        make_here DEPMOD=: INSTALL_MOD_PATH="$payload/usr" modules_install
    fi
    rm -f "$payload/usr/lib/modules/$release/build" "$payload/usr/lib/modules/$release/source"
    install -m 644 "$image" "$payload/boot/vmlinuz-$release"
    install -m 644 System.map "$payload/boot/System.map-$release"
    install -m 644 .config "$payload/boot/config-$release"
    dependencies "$payload" "$release" System.map
    devel "$tree" "$arch" "$devel"
}

# accept PACKAGE FILE: a distribution kernel is configured by its ebuild, from here.
accept() {
    local name=${1%-r[0-9]*} use=/etc/portage/package.use
    name=${name%-*}
    mkdir -p "/etc/portage/savedconfig/${name%/*}"
    cp "$2" "/etc/portage/savedconfig/$name"
    if [ -d "$use" ]; then use=$use/zz-gentoomuch-kernel; fi
    printf '\n%s savedconfig\n' "$name" >>"$use"
}

# The first of some files that is there.
first_of() {
    local file
    for file; do
        [ -f "$file" ] && { printf '%s\n' "$file"; return; }
    done
    return 1
}

# collect PACKAGE PAYLOAD DEVEL: what a distribution kernel has installed.
collect() {
    local package=$1 payload=$2 devel=$3 release modules tree image file
    release=$(built "$package")
    modules=/usr/lib/modules/$release
    [ -d "$modules" ] || modules=/lib/modules/$release
    tree=$(sed -n 's:^obj \(/usr/src/[^/ ]*\)/Makefile .*:\1:;T;p;q' "/var/db/pkg/$package/CONTENTS")
    mkdir -p "$payload/boot" "$payload/usr/lib/modules"
    cp -a "$modules" "$payload/usr/lib/modules/$release"
    rm -f "$payload/usr/lib/modules/$release/build" "$payload/usr/lib/modules/$release/source"
    image=$(first_of "$modules/vmlinuz" "/boot/vmlinuz-$release" "/boot/kernel-$release" "$modules"/{bzImage,Image,zImage} "$tree"/arch/*/boot/{bzImage,Image}) || {
        echo "no kernel image in $modules, /boot or $tree" >&2
        return 1
    }
    install -m 644 "$image" "$payload/boot/vmlinuz-$release"
    if file=$(first_of "$modules/System.map" "/boot/System.map-$release" "$tree/System.map"); then
        install -m 644 "$file" "$payload/boot/System.map-$release"
    fi
    if file=$(first_of "$modules/config" "/boot/config-$release" "$tree/.config"); then
        install -m 644 "$file" "$payload/boot/config-$release"
    fi
    if [ -f "$payload/boot/System.map-$release" ]; then
        dependencies "$payload" "$release" "$payload/boot/System.map-$release"
    fi
    mkdir -p "$devel/usr/src"
    if [ -n "$tree" ]; then
        cp -a "$tree" "$devel/usr/src/"
        ln -sfn "${tree##*/}" "$devel/usr/src/linux"
    fi
}

# collected PACKAGE: as `release`, of a distribution kernel, and where its configuration is.
collected() {
    local release
    release=$(built "$1")
    printf 'RELEASE=%s\n' "$release"
    printf 'CONFIG=%s\n' "$(first_of "/usr/lib/modules/$release/config" "/lib/modules/$release/config" "/boot/config-$release" /usr/src/linux*/.config)"
}

# unpack PACKAGE: the sources of a distribution kernel, as its ebuild would compile them.
unpack() {
    local ebuild makefile
    ebuild=$(python3 -c 'import portage, sys; print(portage.db[portage.root]["porttree"].dbapi.findname(sys.argv[1]))' "$1")
    ebuild "$ebuild" clean prepare
    makefile=$(find "/var/tmp/portage/$1/work" -maxdepth 2 -name Kconfig | sort | sed -n 1p)
    [ -n "$makefile" ] && ln -sfn "${makefile%/Kconfig}" /usr/src/gentoomuch-prep
}

# ask TREE TARGET: one of the kernel's own ways to be configured.
ask() {
    cd "$1"
    exec make "$2"
}

# news TREE FILE: the symbols of these sources that a configuration does not know, then what there is to say about them.
news() {
    cd "$1"
    cp "$2" .config
    make -s listnewconfig 2>/dev/null | grep -a '^\(# \)\{0,1\}CONFIG_' || true
    printf '%s\n' '--- help'
    make -s helpnewconfig 2>/dev/null || true
}

# modules: the packages that have installed kernel modules and are no kernels, and whether they were compiled since MARKER in this session.
modules() {
    local contents package
    for contents in /var/db/pkg/*/*/CONTENTS; do
        grep -qE '^(obj|sym) (/usr)?/lib/modules/' "$contents" || continue
        # Portage's @module-rebuild leaves these out as well.
        if grep -qE '^(obj|dir|sym) /usr/src/linux' "$contents"; then continue; fi
        package=${contents%/CONTENTS}
        if [ "$contents" -nt "$1" ] && [ ! -e "$package/BINPKGMD5" ]; then
            printf 'fresh %s\n' "${package#/var/db/pkg/}"
        else
            printf 'stale %s\n' "${package#/var/db/pkg/}"
        fi
    done
}

# depmod for the kernel of a stage4, whose modules have become more.
depend() {
    if command -v depmod >/dev/null; then depmod -a -F "/boot/System.map-$1" "$1"; fi
}

"$@"
