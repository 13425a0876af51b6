# shellcheck shell=bash
# Sourced by the scripts beside it: makes the checkout the working directory, finds a
# Rust toolchain that a shell without a login has not on its PATH, and defines `say`.
# Nothing here or in the other scripts opens /dev/stdout or /dev/stderr: after a change of
# user the terminal or pipe behind them may not be opened again, only written to.

unset CDPATH
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit

# Build files are for the user who builds, but never less than readable to himself.
umask 022

if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-${HOME:-/nonexistent}/.cargo}/bin/cargo" ]; then
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    export PATH
fi

# A clone that cannot be written to is built in a place of its own.
if [ -z "${CARGO_TARGET_DIR:-}" ] && { if [ -e target ]; then [ ! -w target ]; else [ ! -w . ]; fi; }; then
    CARGO_TARGET_DIR=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/gentoomuch-target/$(pwd -P | sha256sum | cut -c 1-16)
    export CARGO_TARGET_DIR
fi

# Messages go to stderr: stdout belongs to what a script was asked for.
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
