# Purpose: git for the other scripts, deaf to every configuration but the one that is given here.
# When:    read by them.
# Inputs:  git.config and git.attributes beside them, which every work set has.

export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_ATTR_NOSYSTEM=1 GIT_TEMPLATE_DIR='' GIT_TERMINAL_PROMPT=0
export GIT_OPTIONAL_LOCKS=0 GIT_PAGER=cat GIT_EDITOR=false HOME=/tmp LC_ALL=C.UTF-8
export GIT_AUTHOR_NAME=gentoomuch GIT_AUTHOR_EMAIL=gentoomuch@localhost
export GIT_COMMITTER_NAME=gentoomuch GIT_COMMITTER_EMAIL=gentoomuch@localhost
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE

# Makes the repository $1, without anything from templates.
new_repository() {
    git init -q "$1" 2>/dev/null
    rm -rf -- "$1/.git/hooks" "$1/.git/branches" "$1/.git/info"
    mkdir -p -- "$1/.git/info"
    adopt_repository "$1"
    git -C "$1" symbolic-ref HEAD refs/heads/work
}

# Gives the repository $1 the configuration and the attributes that hold for work sets: every file is what its bytes are.
adopt_repository() {
    cp -- "${0%/*}/git.config" "$1/.git/config"
    cp -- "${0%/*}/git.attributes" "$1/.git/info/attributes"
}

# Everything that is in the work tree $1 becomes a commit with the message $2 and the parents that follow; prints it.
snapshot() {
    tree=$1 message=$2
    shift 2
    GIT_INDEX_FILE=$tree/.git/index.new git -C "$tree" add -f -A .
    written=$(GIT_INDEX_FILE=$tree/.git/index.new git -C "$tree" write-tree)
    mv -f -- "$tree/.git/index.new" "$tree/.git/index"
    for parent; do
        shift
        set -- "$@" -p "$parent"
    done
    printf '%s\n' "$message" | git -C "$tree" commit-tree "$written" "$@"
}

# Applies the saved patch $2 to the work tree $1 as Portage would; what does not fit is left between conflict markers.
apply_saved() {
    [ -f "$2" ] || return 0
    # Hunks that fit with some fuzz count as fitting, as they do for Portage.
    if (cd -- "$1" && patch -p1 -f -g0 --no-backup-if-mismatch --dry-run) <"$2" >/tmp/applied 2>&1; then
        (cd -- "$1" && patch -p1 -f -g0 --no-backup-if-mismatch) <"$2" >/tmp/applied 2>&1
        printf '@gentoomuch saved applied\n'
        return 0
    fi
    (cd -- "$1" && patch -p1 -f -g0 --no-backup-if-mismatch --merge=diff3) <"$2" >/tmp/applied 2>&1 || :
    find "$1" -path "$1/.git" -prune -o \( -name '*.rej' -o -name '*.orig' \) -newer "$1/.git/config" -print | while read -r left; do
        printf '@gentoomuch rejected %s\n' "${left#"$1"/}"
    done
    grep -rlI --exclude-dir=.git '^<<<<<<<' "$1" | sort | while read -r file; do
        printf '@gentoomuch conflict %s\n' "${file#"$1"/}"
    done
    printf '@gentoomuch saved conflicts\n'
}
