//! Runs a command in a throw-away session, keeps what it left under a name, and writes that as a tarball:
//! `session CONFIG DIRECTORY PROFILE NAME OUTPUT COMMAND…`, where DIRECTORY has `data` and `cache` in it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "programs print; the library does not")]

use std::error::Error;

use gentoomuch::{
    ArtifactFormat, Destination, Event, Exit, ExportRequest, FreshrootOptions, HelperSource, Network, Observer, Places, Settings,
    Tools, User, export_state, freshroot,
};

/// Says what goes on, a line each.
struct Lines;

impl Observer for Lines {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Step(text) | Event::Note(text) => eprintln!("{text}"),
            Event::Warning(text) => eprintln!("warning: {text}"),
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // A session begins with a copy of this program.
    gentoomuch::enter_if_asked();
    let args: Vec<String> = std::env::args().collect();
    let [_, config, directory, profile, name, output, command @ ..] = args.as_slice() else {
        return Err("usage: session CONFIG DIRECTORY PROFILE NAME OUTPUT COMMAND…".into());
    };
    let directory = std::path::absolute(directory)?;
    let places = Places { config: std::path::absolute(config)?, data: directory.join("data"), cache: directory.join("cache") };
    let search_path = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let tools = Tools::open(&places, &user(), HelperSource::CurrentExe, search_path, "session", None)?;
    let cx = tools.context(&Lines, Settings::new("amd64", 2));

    let options = FreshrootOptions {
        profile: Some(profile.clone()),
        from: None,
        state: None,
        keep: Some(name.clone()),
        keep_failed: false,
        replace: false,
        binds: Vec::new(),
        network: Network::None,
        promote: false,
        command: command.to_vec(),
        terminal: false,
    };
    let ended = freshroot(&cx, &options)?;
    if ended.exit != Exit::Code(0) {
        return Err(format!("the command ended with {:?}", ended.exit).into());
    }

    let request = ExportRequest {
        state: format!("kept/{name}"),
        format: Some(ArtifactFormat::TarZst),
        compression: None,
        to: Some(Destination::Path(std::path::absolute(output)?)),
        push: None,
        gpg: None,
    };
    let exported = export_state(&cx, None, &request)?;
    println!("{}", exported.artifact.path.display());
    Ok(())
}

/// Who runs this, as the user database has it.
fn user() -> User {
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let known = nix::unistd::User::from_uid(uid).ok().flatten();
    let name = known.map_or_else(|| uid.to_string(), |user| user.name);
    User { uid: uid.as_raw(), gid: gid.as_raw(), name, alone_in_group: false }
}
