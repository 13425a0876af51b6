//! Portage's files and words: pure parsing and merging, and running `emerge`.

pub mod emerge;
