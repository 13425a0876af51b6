//! Archives in and out: unpacking with safety, packing with determinism, compression in parallel.
