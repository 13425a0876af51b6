//! Checks a stage3 tarball against the keys of a directory: `verify KEYS TARBALL`.

#![expect(clippy::print_stdout, reason = "programs print; the library does not")]

use std::error::Error;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use gentoomuch::{GENTOO, Purpose, Silent, TrustedKeys, VerifyOptions, verify};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, keys, tarball] = args.as_slice() else { return Err("usage: verify KEYS TARBALL".into()) };
    // Gentoo's release keys count besides those of the directory.
    let keys = TrustedKeys::load(Path::new(keys), GENTOO)?;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let options = VerifyOptions { now, ..VerifyOptions::default() };
    let verified = verify(Path::new(tarball), keys.counting_for(Purpose::Stage3), &options, &Silent)?;
    println!("{} of {} bytes", verified.name, verified.size);
    for check in &verified.checks {
        println!("  {}: {}", check.file, check.what);
    }
    Ok(())
}
