//! Whole directories, written into a temporary place and read.
