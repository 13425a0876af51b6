//! Sessions that install packages from the binhosts of their configuration.
//!
//! ```text
//! sessions/SESSION/binhost/packages    /var/cache/binhost           what was downloaded, apart from the pools
//!                  binhost/index       /var/cache/edb/binhost       copies of the hosts' indexes
//!                  keyring-DIGEST      /run/gentoomuch/gnupg        keys that the configuration trusts with packages, and nobody else's
//! ```
//!
//! Indexes and packages are fetched outside, like source archives (`supply`): each host gets the command that asks us, and the broker gives
//! out what a trusted key has signed. Portage verifies each package once more before it unpacks anything of it, and the settings here make
//! sure that it does. Nothing of a binhost gets into a pool,
//! since we do not know its compiler and flags. Our own packages stay unsigned: they never leave this user's directories.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::beneath::TreeDir;
use crate::context::Context;
use crate::fetch::{BinHost, PACKAGE_COMMAND};
use crate::path_error::OfFile as _;
use crate::sandbox::plan::Step;
use crate::session::readable_files::create_open;
use crate::session::supply::downloads::Downloads;
use crate::session::{Error, Result};
use crate::stage3::keys::{Purpose, TrustedKeys};
use crate::store::Session;

/// For how many hosts packages are noted.
const MOST_HOSTS: usize = 1000;
/// Where the session sees the keyring.
pub(crate) const KEYRING: &str = "/run/gentoomuch/gnupg";
/// The last file of the directory, so that it wins over all others.
pub(crate) const SESSION_FILE: &str = "/etc/portage/binrepos.conf/zz-gentoomuch-session.conf";
/// Where Portage puts packages of a host that has a name.
pub(crate) const PACKAGES: &str = "/var/cache/binhost";
/// The field of an origin that says what came from hosts.
pub(crate) const OF_HOSTS: &str = "binhost_packages";
/// Where it keeps their indexes.
pub(crate) const INDEX: &str = "/var/cache/edb/binhost";

/// The directories for binhosts in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    pub packages: PathBuf,
    pub index: PathBuf,
    pub keyring: PathBuf,
    /// The hosts that the session may ask, by their sections in `binrepos.conf`.
    pub hosts: Vec<BinHost>,
}

impl Client {
    /// Whether a host has sent its index.
    pub(crate) fn has_index(&self) -> bool {
        fs::read_dir(&self.index).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Whether any host can be asked. Without a network these are the ones that are directories.
    pub(crate) fn can_be_asked(&self, offline: bool) -> bool {
        !offline || self.hosts.iter().any(|host| host.directory().is_some())
    }

    pub(super) fn is_made(&self) -> bool {
        self.keyring.join("made").exists()
    }

    /// The mounts, and the settings for all hosts.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let bind =
            |source: &Path, target: &str, read_only| Step::Bind { source: source.to_owned(), target: target.into(), read_only };
        let mut contents = "# Of this session only.\n[DEFAULT]\nverify-signature = true\n".to_owned();
        for host in &self.hosts {
            // A host's own section wins over `[DEFAULT]`, so each host gets the commands.
            let name = &host.name;
            contents.push_str(&format!("[{name}]\nfetchcommand = {PACKAGE_COMMAND}\nresumecommand = {PACKAGE_COMMAND}\n"));
            if host.directory().is_some() {
                contents.push_str(&format!("sync-uri = {}\n", host.asked_as()));
            }
        }
        vec![
            bind(&self.packages, PACKAGES, false),
            bind(&self.index, INDEX, false),
            // Read-only once it is made, so that no package can add a key.
            bind(&self.keyring, KEYRING, self.is_made()),
            Step::File { path: SESSION_FILE.into(), contents, mode: 0o644 },
        ]
    }
}

/// The additional settings of such a session.
pub(crate) fn settings() -> String {
    format!(
        "\n# Binhosts: verified with the keys that the configuration trusts. PORTAGE_TRUST_HELPER would fetch others.\n\
         BINPKG_GPG_VERIFY_GPG_HOME=\"{KEYRING}\"\nPORTAGE_TRUST_HELPER=\"\"\nFEATURES=\"${{FEATURES}} -binpkg-ignore-signature\"\n"
    )
}

/// The directories for binhosts, whose packages `keys` verify. `None` if the configuration names no hosts.
pub(crate) fn binhost_client(
    cx: &Context<'_>,
    session: &Session,
    downloads: &Downloads,
    keys: &TrustedKeys,
) -> Result<Option<Client>> {
    let hosts = downloads.hosts();
    if hosts.is_empty() {
        return Ok(None);
    }
    let trusted: Vec<_> = keys.certificates().filter(|key| keys.counting_for(Purpose::Binpkg).count(key.fingerprint())).collect();
    if trusted.is_empty() {
        return Err(Error::NoKeys);
    }
    let dir = |name: &str| -> Result<PathBuf> {
        let path = session.path(name);
        create_open(&path)?;
        Ok(path)
    };
    let (mut armored, mut ownertrust) = (String::new(), String::new());
    for key in trusted {
        let text = key
            .to_armored()
            .map_err(|source| Error::Keys(crate::stage3::keys::KeysError::Material { path: cx.places.keys(), source }))?;
        armored.push_str(&text);
        ownertrust.push_str(&format!("{}:6:\n", key.fingerprint()));
    }
    dir("binhost")?;
    // The name is a digest of the keys. If a session is resumed with other keys, it gets another keyring, without the keys that lost
    // their trust.
    let keyring = format!("keyring-{}", &hex::encode(Sha256::digest(&armored))[..16]);
    let (packages, index) = (dir("binhost/packages")?, dir("binhost/index")?);
    let client = Client { packages, index, keyring: dir(&keyring)?, hosts };
    for (name, text) in [("keys.asc", armored), ("ownertrust", ownertrust)] {
        let path = client.keyring.join(name);
        // In a resumed session these files may belong to another user, and they have the same contents.
        if !path.exists() {
            fs::write(&path, text).map_err(Error::io("write", &path))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(Error::io("change the mode of", &path))?;
        }
    }
    Ok(Some(client))
}

/// Notes in a state's origin what the session has downloaded from binhosts, if anything. The names may be hostile, so only names of
/// packages are noted.
pub(crate) fn note_packages(origin: &mut serde_json::Value, session: &Session) {
    let packages = session.path("binhost/packages");
    let Ok(hosts) = TreeDir::open(&packages).and_then(|packages| packages.entries(MOST_HOSTS)) else { return };
    // An update notes what of earlier ones is still there.
    let mut found: Vec<String> = serde_json::from_value(origin[OF_HOSTS].clone()).unwrap_or_default();
    for host in hosts.iter().filter(|host| host.is_dir()) {
        let name: String = host.os().to_string_lossy().chars().filter(|c| !c.is_control()).take(100).collect();
        match crate::portage::binpkgs::unused::builds(&packages.join(host.os())) {
            Ok(builds) => found.extend(builds.into_iter().map(|build| format!("{name}/{}", build.package.path))),
            Err(error) => tracing::debug!(%error, "not recorded"),
        }
    }
    found.sort();
    found.dedup();
    origin[OF_HOSTS] = serde_json::json!(found);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigDir;

    #[test]
    fn a_file_of_hosts_joins_the_directory_of_the_stage3() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in
            [("portage.global/binrepos.conf", "[own]\nsync-uri = http://h\n"), ("stage3.defines/x/portage.local", "")]
        {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let config = ConfigDir::open(dir.path()).unwrap();
        let portage = config.portage_dir(&config.stage3("x").unwrap()).unwrap();
        assert!(portage.files.contains_key(Path::new("binrepos.conf/50-gentoomuch.conf")));
        assert_eq!(
            Downloads::of(&portage, &[]).hosts(),
            [BinHost { name: "own".into(), sync_uri: "http://h".into(), configured: true }]
        );
    }

    #[test]
    fn each_host_is_asked_outside_whatever_its_own_section_says() {
        let host = |name: &str, sync_uri: &str| BinHost { name: name.to_owned(), sync_uri: sync_uri.to_owned(), configured: true };
        let hosts = vec![host("own", "http://h"), host("dir", "file:///srv/x")];
        let mut client = Client { packages: "/s/p".into(), index: "/s/i".into(), keyring: "/s/k".into(), hosts };
        let Some(Step::File { contents, .. }) = client.steps().pop() else { panic!("no file") };
        let command = format!("fetchcommand = {PACKAGE_COMMAND}\nresumecommand = {PACKAGE_COMMAND}\n");
        let own = format!("# Of this session only.\n[DEFAULT]\nverify-signature = true\n[own]\n{command}");
        let (before, alias) = contents.split_once("sync-uri = ").unwrap();
        assert_eq!(before, format!("{own}[dir]\n{command}"));
        assert_eq!(alias.trim_end(), client.hosts[1].asked_as(), "a directory that the session does not have");
        assert!(client.can_be_asked(false) && client.can_be_asked(true));
        client.hosts.pop();
        assert!(client.can_be_asked(false) && !client.can_be_asked(true));
    }
}
