# shellcheck shell=bash
# Purpose: Portage's functions and the environment of a failed package, for the shell that enter.py starts.
# When:    first, in that shell.

# The level of compatibility and other options are a matter of ebuilds, not of whoever types.
for _part in isolated-functions.sh phase-functions.sh phase-helpers.sh; do
    # shellcheck disable=SC1090
    . "$PORTAGE_BIN_PATH/$_part"
done
unset _part
if [ -r "$T/environment" ]; then
    # shellcheck disable=SC1091
    . "$T/environment"
else
    printf '%s\n' "the package had no environment yet: only variables of Portage are set" >&2
fi
# Portage's own ends the shell in which it is called.
die() {
    printf 'die: %s\n' "$*" >&2
    return 1
}
# The environment was written where a log was, and colours were off or on.
unset HISTFILE
cd -- "${S:-/nonexistent}" 2>/dev/null || cd -- "$WORKDIR" 2>/dev/null || cd -- "$GENTOOMUCH_BUILD_DIR" || :
PS1="$PF $EBUILD_PHASE \\w \\\$ "
