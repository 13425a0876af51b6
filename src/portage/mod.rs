//! Portage's files and words: pure parsing and merging, and running `emerge`.

pub(crate) mod atom;
pub(crate) mod binpkgs;
pub(crate) mod binrepos;
pub(crate) mod configparser;
pub(crate) mod cpv;
pub(crate) mod effective_use;
pub(crate) mod emerge;
pub(crate) mod installed;
pub(crate) mod licence;
pub(crate) mod make_conf;
pub(crate) mod manifest;
pub(crate) mod matching;
pub(crate) mod messages;
pub(crate) mod package_files;
pub(crate) mod profile;
pub(crate) mod profile_stack;
pub(crate) mod repository;
pub(crate) mod session_conf;
pub(crate) mod src_uri;
pub(crate) mod untrusted;
pub(crate) mod use_flags;
pub(crate) mod variables;
pub(crate) mod vdb;
pub(crate) mod version;
