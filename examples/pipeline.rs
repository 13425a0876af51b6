//! Builds the stage4s of a configuration, unsigned, and says what becomes of each node: `pipeline CONFIG DIRECTORY [SECONDS [NAME…]]`, where
//! DIRECTORY has `data` and `cache` in it. What is not done after so many seconds is suspended, and goes on with the next call.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "programs print; the library does not")]

use std::error::Error;
use std::sync::mpsc;
use std::time::Duration;

use gentoomuch::{
    ConfigDir, Event, HelperSource, Node, NodeReport, Outcome, PipelineOptions, Places, Settings, Silent, Tools, User, Watcher,
    pipeline,
};

/// Says when nodes begin and end.
struct Lines;

impl Watcher for Lines {
    fn begun(&self, node: &Node) {
        eprintln!("{}: begun", node.id);
    }

    fn event(&self, node: &Node, event: &Event<'_>) {
        if let Event::Step(text) = event {
            eprintln!("{}: {text}", node.id);
        }
    }

    fn ended(&self, node: &Node, report: &NodeReport) {
        eprintln!("{}: {:?}", node.id, report.outcome);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    gentoomuch::enter_if_asked();
    let mut args = std::env::args().skip(1);
    let mut directory = || {
        std::path::absolute(args.next().ok_or("usage: pipeline CONFIG DIRECTORY [SECONDS [NAME…]]")?)
            .map_err(Box::<dyn Error>::from)
    };
    let (config, directory) = (directory()?, directory()?);
    let patience = args.next().map(|text| text.parse()).transpose()?.map(Duration::from_secs);
    let places = Places { config, data: directory.join("data"), cache: directory.join("cache") };
    let search_path = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();

    let config = ConfigDir::open(&places.config)?;
    let tools = Tools::open(&places, &user(), HelperSource::CurrentExe, search_path, "pipeline", None)?;
    // What is compiled has to run here.
    let settings = Settings { cpuinfo: std::fs::read_to_string("/proc/cpuinfo")?, ..Settings::new("amd64", 2) };
    let cx = tools.context(&Silent, settings);
    let plan = pipeline(&cx, &config, PipelineOptions { names: args.collect(), ..PipelineOptions::default() })?;
    let (done, is_done) = mpsc::channel::<()>();
    let report = std::thread::scope(|threads| {
        if let Some(patience) = patience {
            let tools = &tools;
            threads.spawn(move || {
                if is_done.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
                    tools.cancel();
                }
            });
        }
        let report = plan.run(false, &Lines);
        drop(done);
        report
    })?;
    for node in &report.nodes {
        println!("{} {}", node.id, serde_json::to_value(&node.outcome)?["result"]);
    }
    let is_done = report.nodes.iter().all(|node| matches!(node.outcome, Outcome::Built | Outcome::Reused));
    if is_done { Ok(()) } else { Err("not all of it is done".into()) }
}

/// Who runs this, as the user database has it.
fn user() -> User {
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let known = nix::unistd::User::from_uid(uid).ok().flatten();
    let name = known.map_or_else(|| uid.to_string(), |user| user.name);
    User { uid: uid.as_raw(), gid: gid.as_raw(), name, alone_in_group: false }
}
