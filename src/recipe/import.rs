//! `bootstrap` makes a profile of a verified stage3: its upstream state, and the builder on that.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::archive::tasks::ImportInput;
use crate::archive::{Unpacked, tasks};
use crate::build_key::Inputs;
use crate::context::Context;
use crate::names::refs::{UPSTREAM, definition_lock, ref_name};
use crate::path_error::OfFile as _;
use crate::progress::Event;
use crate::recipe::definition::definition_words;
use crate::recipe::realise::{Built, InSession, Recipe, in_session, realise, realise_unnamed};
use crate::recipe::{Error, Result};
use crate::stage3::keys::{Purpose as KeyPurpose, TrustedKeys};
use crate::stage3::{Verified, VerifyOptions};
use crate::store::{Purpose, Session, State};
use crate::{context, stage3};

#[derive(Debug, Clone)]
pub struct BootstrapOptions {
    /// The profile to make or renew.
    pub profile: String,
    /// The tarball. Its signature and digests lie beside it.
    pub stage3: PathBuf,
    /// How strict to be.
    pub verify: VerifyOptions,
    /// Stop after the import.
    pub no_rebuild: bool,
}

/// The state of a stage3. It is imported unless that was done before. It is verified in any case.
pub(crate) fn import(cx: &Context<'_>, keys: &TrustedKeys, options: &BootstrapOptions) -> Result<Built> {
    let verified = verified(cx, keys, options)?;
    realise(cx, &ImportRecipe { verified: &verified, path: &options.stage3, profile: &options.profile })
}

/// The same without a name: no profile changes.
pub(crate) fn import_unnamed(cx: &Context<'_>, keys: &TrustedKeys, options: &BootstrapOptions) -> Result<Built> {
    let verified = verified(cx, keys, options)?;
    realise_unnamed(cx, &ImportRecipe { verified: &verified, path: &options.stage3, profile: &options.profile })
}

fn verified(cx: &Context<'_>, keys: &TrustedKeys, options: &BootstrapOptions) -> Result<Verified> {
    let path = &options.stage3;
    cx.observer.step(&format!("verifying {}", path.display()));
    let verified = stage3::verify(path, keys.counting_for(KeyPurpose::Stage3), &options.verify, cx.observer)?;
    match (&verified.signer, &verified.allow_unsigned) {
        (Some(signer), _) => cx.observer.note(&format!("signed by {}", signer.primary)),
        (None, Some(reason)) => {
            cx.observer.event(&Event::Warning(&format!("without a trusted signature; accepted because: {reason}")));
        }
        (None, None) => {}
    }
    for note in &verified.notes {
        cx.observer.note(note);
    }
    Ok(verified)
}

struct ImportRecipe<'a> {
    verified: &'a Verified,
    path: &'a Path,
    profile: &'a str,
}

impl Recipe for ImportRecipe<'_> {
    fn name(&self) -> Option<String> {
        Some(ref_name(self.profile, UPSTREAM))
    }

    fn lock(&self) -> String {
        definition_lock(self.profile, UPSTREAM)
    }

    fn is_configured(&self) -> bool {
        false
    }

    fn words(&self) -> String {
        definition_words(self.profile, UPSTREAM)
    }

    fn inputs(&self) -> Inputs {
        // The same bytes with and without a signature have different keys. Otherwise a state could be reused without its mark "unsigned".
        let unsigned = self.verified.allow_unsigned.clone().unwrap_or_default();
        Inputs::new("import").with("sha512", &self.verified.sha512).with("unsigned", unsigned)
    }

    fn make(&self, cx: &Context<'_>) -> Result<Built> {
        in_session(cx, self)
    }
}

impl InSession for ImportRecipe<'_> {
    type Filled = Unpacked;

    fn base(&self, _cx: &Context<'_>) -> Result<Option<State>> {
        Ok(None)
    }

    fn purpose(&self) -> Purpose {
        Purpose::Import
    }

    fn subject(&self) -> Option<String> {
        None
    }

    fn step(&self, _resumed: bool) -> String {
        "unpacking".to_owned()
    }

    fn fill(&self, cx: &Context<'_>, session: &mut Session, _base: Option<&State>) -> Result<Unpacked> {
        unpack(cx, session, self.verified, self.path)
    }

    fn origin(&self, _base: Option<&State>, unpacked: &Unpacked) -> serde_json::Value {
        let Verified { name, size, sha512, blake2b, signer, allow_unsigned, checks, .. } = self.verified;
        serde_json::json!({
            "kind": "stage3",
            "inputs": self.inputs(),
            "name": name,
            "size": size,
            "sha512": sha512,
            "blake2b": blake2b,
            "signer": signer,
            "allow_unsigned": allow_unsigned,
            "checks": checks,
            "files": unpacked.files,
        })
    }

    fn newest_input(&self, _base: Option<&State>, unpacked: &Unpacked) -> i64 {
        // A file with a time in the future would give every artifact a time in the future.
        unpacked.newest_mtime.min(crate::clock::now().as_second())
    }
}

fn unpack(cx: &Context<'_>, session: &Session, verified: &Verified, path: &Path) -> Result<Unpacked> {
    let input = ImportInput {
        source: path.to_owned(),
        into: session.upper(),
        size: verified.size,
        sha512: verified.sha512.clone(),
        blake2b: verified.blake2b.clone(),
        threads: cx.settings.processors,
        layer_sha256: None,
    };
    let file = verified.file.try_clone().map_err(Error::io("open", path))?;
    let result =
        tasks::import(cx.launcher, &input, OwnedFd::from(file), vec![session.lock_fd()?], Some(context::cancel(cx)?), cx.observer);
    context::not_interrupted(cx)?;
    Ok(result?)
}
