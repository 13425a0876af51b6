//! Portage's files and words: pure parsing and merging, and running `emerge`.

pub mod atom;
pub mod binpkgs;
pub mod binrepos;
pub(crate) mod configparser;
pub mod cpv;
pub mod effective_use;
pub mod emerge;
pub mod installed;
pub mod licence;
pub mod make_conf;
pub mod manifest;
pub mod matching;
pub mod package_files;
pub mod profile;
pub mod profile_stack;
pub mod repository;
pub mod session_conf;
pub mod src_uri;
pub mod untrusted;
pub mod use_flags;
pub mod variables;
pub mod vdb;
pub mod version;
