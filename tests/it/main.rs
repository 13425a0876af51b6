//! End-to-end tests: the real binary in real namespaces.
