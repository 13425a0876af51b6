//! Makes the keyring by which Portage verifies packages of other hosts ([`crate::session::binhost`]).

use crate::context::Context;
use crate::sandbox::plan::Network;
use crate::session::binhost::KEYRING;
use crate::session::{Error, Result, Work, run};
/// Makes the keyring. gpg's messages go to the log. `getuto` sets the ownertrust as well: Portage refuses keys without it.
const MAKE_KEYRING: &str = "cd \"$1\"
gpg --homedir . --batch --no-autostart --import keys.asc
gpg --homedir . --batch --no-autostart --import-ownertrust ownertrust
gpg --homedir . --batch --no-autostart --check-trustdb
chmod 0755 .
chmod 0644 pubring.kbx trustdb.gpg
: >made";

/// Makes the keyring unless it exists. The session's own gpg makes it.
pub(crate) fn make_keyring(cx: &Context<'_>, work: &Work<'_>) -> Result<()> {
    let Some(client) = &work.root.binhost else { return Ok(()) };
    if client.is_made() {
        return Ok(());
    }
    let argv = ["/bin/sh", "-ec", MAKE_KEYRING, "sh", KEYRING].map(str::to_owned).to_vec();
    run::command(cx, work, argv, Network::None).map_err(|error| match error {
        error @ Error::Command { .. } => Error::Keyring(Box::new(error)),
        other => other,
    })
}
