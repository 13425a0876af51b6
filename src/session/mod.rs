//! TODO

pub mod binhost;
pub mod echo;
pub mod fulfilled;
pub mod inspect;
pub mod keys;
pub mod output;
pub mod put_back;
pub mod relink;
pub mod root;
pub mod run;
pub mod script;
pub mod supply;
pub mod tidy;
pub mod visible;
pub mod work;
