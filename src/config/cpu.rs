//! Whether this machine can execute what a definition compiles.
