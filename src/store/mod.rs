//! Layers, build states, refs, locks and sessions on disk.
