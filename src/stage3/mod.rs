//! Stage3 tarballs: names, digests, signatures and trusted keys.
