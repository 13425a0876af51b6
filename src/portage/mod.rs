//! Portage's files and words: pure parsing and merging, and running `emerge`.

pub mod binpkgs;
pub mod emerge;
pub mod session_conf;
pub mod untrusted;
pub mod vdb;
