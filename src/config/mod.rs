//! The configuration directory, read into typed values that know their file and line.
