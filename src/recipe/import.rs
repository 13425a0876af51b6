//! `bootstrap`: a verified stage3 becomes a profile: its upstream state, and the builder on it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::archive::tasks::ImportInput;
use crate::archive::{Unpacked, tasks};
use crate::build_key::Inputs;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::progress::Event;
use crate::recipe::definition::Built;
use crate::stage3::keys::{Purpose as KeyPurpose, TrustedKeys};
use crate::stage3::{Verified, VerifyOptions};
use crate::store::{NewState, Purpose};
use crate::{context, stage3};

/// What to bootstrap from, and how far.
#[derive(Debug, Clone)]
pub struct BootstrapOptions {
    /// The profile to make or renew.
    pub profile: String,
    /// The stage3 tarball; its signature and digests lie beside it.
    pub stage3: PathBuf,
    /// How strict to be.
    pub verify: VerifyOptions,
    /// Stop after the import.
    pub no_rebuild: bool,
}

/// The state of a stage3, imported unless it was before. It is verified either way.
pub(crate) fn import(cx: &Context<'_>, keys: &TrustedKeys, options: &BootstrapOptions) -> Result<Built> {
    let path = &options.stage3;
    cx.observer.step(&format!("verifying {}", path.display()));
    let verified = stage3::verify(path, keys.counting_for(KeyPurpose::Stage3), &options.verify, cx.observer)?;
    match (&verified.signer, &verified.allow_unsigned) {
        (Some(signer), _) => cx.observer.note(&format!("signed by {}", signer.primary)),
        (None, Some(reason)) => {
            cx.observer.event(&Event::Warning(&format!("nobody vouches for it; taken because: {reason}")));
        }
        (None, None) => {}
    }
    for note in &verified.notes {
        cx.observer.note(note);
    }
    // What nobody signed is another thing than the same bytes with a signature: its mark must not get lost by reuse.
    let inputs = Inputs::new("import")
        .with("sha512", &verified.sha512)
        .with("unsigned", verified.allow_unsigned.clone().unwrap_or_default());
    let key = inputs.key();
    if let Some(state) = cx.store.state_by_key(&key)? {
        return Ok(Built { state, reused: true });
    }
    cx.observer.step("unpacking");
    let session = cx.store.session_create(None, Purpose::Import, &key)?;
    match unpack(cx, &session, &verified, path) {
        Ok(unpacked) => {
            let origin = serde_json::json!({
                "kind": "stage3",
                "inputs": inputs,
                "name": verified.name,
                "size": verified.size,
                "sha512": verified.sha512,
                "blake2b": verified.blake2b,
                "signer": verified.signer,
                "allow_unsigned": verified.allow_unsigned,
                "checks": verified.checks,
                "files": unpacked.files,
            });
            // A file of the future would make every artifact one of the future.
            let newest_input = unpacked.newest_mtime.min(jiff::Timestamp::now().as_second());
            let state = session.commit(NewState { key, origin, newest_input, parent: None })?;
            Ok(Built { state, reused: false })
        }
        Err(error) => {
            session.discard(cx.launcher)?;
            Err(error)
        }
    }
}

fn unpack(cx: &Context<'_>, session: &crate::store::Session, verified: &Verified, path: &std::path::Path) -> Result<Unpacked> {
    let input = ImportInput {
        source: path.to_owned(),
        into: session.upper(),
        size: verified.size,
        sha512: verified.sha512.clone(),
        blake2b: verified.blake2b.clone(),
        threads: cx.settings.processors,
    };
    let file = verified.file.try_clone().map_err(Error::io("open", path))?;
    let result =
        tasks::import(cx.launcher, &input, OwnedFd::from(file), vec![session.lock_fd()?], Some(context::cancel(cx)?), cx.observer);
    context::not_interrupted(cx)?;
    Ok(result?)
}
