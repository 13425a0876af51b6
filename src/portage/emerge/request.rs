//! A request to `emerge` as a value, and its arguments.
//!
//! Every option that changes the result is written out, so that defaults of different Portage versions do not matter.
//! `EMERGE_DEFAULT_OPTS` is not read: the part of it that we use is in the request. All options used were known to Portage 3.0.30 (2022).

use super::default_opts::DefaultOpts;

/// The program, found in the session's `PATH`.
pub(crate) const PROGRAM: &str = "emerge";

/// The goal of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Build everything in `@world` anew for the present settings; a fitting binary package counts as built.
    RebuildWorld,
    /// Install these atoms and sets.
    Packages {
        /// Atoms and sets (`@name`), as the user wrote them.
        atoms: Vec<String>,
        /// What to do with installed ones.
        existing: Existing,
        /// Do not record them in the world file.
        oneshot: bool,
    },
    /// Go on with the merge list of an interrupted or failed run; see [`resumable`](super::resume::resumable).
    Resume,
    /// Remove packages that nothing needs.
    Depclean,
}

/// What a request does with installed packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// Leave them.
    Keep,
    /// Update them and their dependencies to the tree and USE flags.
    Update,
    /// Install them again.
    Rebuild,
}

/// Whether to do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Do it.
    Run,
    /// Only print what would be done.
    Pretend,
}

/// The part of a merge list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The packages and their dependencies.
    All,
    /// Only their build dependencies.
    BuildDependencies,
    /// Only the packages.
    Packages,
}

/// One run of `emerge`.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "options of emerge that have nothing to do with each other")]
pub(crate) struct Request {
    /// What shall be there afterwards.
    pub goal: Goal,
    /// How far to go.
    pub mode: Mode,
    /// Packages built at the same time.
    pub jobs: u32,
    /// Load average above which no further package is started.
    pub load: Option<f32>,
    /// Use binary packages of the pool.
    pub usepkg: bool,
    /// Except these (`category/name`), which are always built.
    pub usepkg_exclude: Vec<String>,
    /// Keep what is built as binary packages.
    pub buildpkg: bool,
    /// Except these (`category/name`).
    pub buildpkg_exclude: Vec<String>,
    /// Colours, if the output goes to a terminal directly.
    pub color: bool,
    /// Packages, dependencies, or both.
    pub part: Part,
    /// Show the compilers' output; only readable with one package at a time.
    pub show_log: bool,
    /// Propose to unmask packages. Somebody masked them on purpose, so only requests for proposals set this.
    pub propose_unmask: bool,
    /// Options from the configuration.
    pub opts: DefaultOpts,
}

/// An atom that cannot be given to `emerge`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// emerge would take it for an option or for several arguments.
    #[error("`{atom}` is not a package atom or set")]
    Atom { atom: String },
    /// Nothing was asked for.
    #[error("no packages to emerge")]
    NoAtoms,
}

impl Request {
    /// `goal`, using and making binary packages, with one job.
    pub(crate) fn new(goal: Goal, mode: Mode) -> Self {
        Self {
            goal,
            mode,
            jobs: 1,
            load: None,
            usepkg: true,
            usepkg_exclude: Vec::new(),
            buildpkg: true,
            buildpkg_exclude: Vec::new(),
            color: false,
            part: Part::All,
            show_log: false,
            propose_unmask: false,
            opts: DefaultOpts::default(),
        }
    }

    /// The same request with another `mode`, so that the preview and the run have the same merge list.
    #[must_use]
    pub(crate) fn with_mode(&self, mode: Mode) -> Self {
        Self { mode, ..self.clone() }
    }

    /// The argument vector, program first.
    pub(crate) fn argv(&self) -> Result<Vec<String>, Error> {
        let mut argv = vec![PROGRAM.to_owned()];
        let yn = |on: bool| if on { "y" } else { "n" };
        argv.push("--ignore-default-opts".to_owned());
        argv.push(format!("--color={}", yn(self.color)));
        argv.extend(["--ask=n", "--nospinner"].map(str::to_owned));
        if self.goal == Goal::Depclean {
            argv.push("--depclean".to_owned());
            if self.mode == Mode::Pretend {
                argv.push("--pretend".to_owned());
            }
            return Ok(argv);
        }
        // We want the proposals (USE, keywords, licenses) in the output if dependencies cannot be satisfied, but emerge must neither
        // write them nor continue as if they had been accepted.
        argv.push("--autounmask=y".to_owned());
        argv.push(format!("--autounmask-keep-masks={}", yn(!self.propose_unmask)));
        argv.extend(["--autounmask-write=n", "--autounmask-continue=n"].map(str::to_owned));
        argv.push(format!("--keep-going={}", yn(self.opts.keep_going.unwrap_or(false))));
        argv.push(format!("--quiet-build={}", yn(!self.show_log)));
        argv.push(format!("--jobs={}", self.opts.jobs.map_or(self.jobs, |jobs| jobs.min(self.jobs)).max(1)));
        let loads = [self.load, self.opts.load].into_iter().flatten().filter(|load| load.is_finite() && *load > 0.0);
        if let Some(load) = loads.reduce(f32::min) {
            argv.push(format!("--load-average={load:.1}"));
        }
        argv.push(format!("--usepkg={}", yn(self.usepkg)));
        for atom in &self.usepkg_exclude {
            argv.push(format!("--usepkg-exclude={}", checked(atom)?));
        }
        argv.push(format!("--buildpkg={}", yn(self.buildpkg)));
        for atom in &self.buildpkg_exclude {
            argv.push(format!("--buildpkg-exclude={}", checked(atom)?));
        }
        match self.part {
            Part::All => {}
            // By default `--onlydeps` also installs run-time dependencies (emerge(1)), which a build does not need.
            Part::BuildDependencies => argv.extend(["--onlydeps", "--onlydeps-with-rdeps=n"].map(str::to_owned)),
            Part::Packages => argv.push("--nodeps".to_owned()),
        }
        match self.mode {
            Mode::Run => {}
            Mode::Pretend => argv.extend(["--pretend", "--verbose=y"].map(str::to_owned)),
        }
        argv.extend(self.opts.more.iter().cloned());
        self.goal_arguments(&mut argv)?;
        Ok(argv)
    }

    fn goal_arguments(&self, argv: &mut Vec<String>) -> Result<(), Error> {
        // Rebuild and update build dependencies as well: otherwise a binary package hides that its compiler is out of date.
        // `--binpkg-respect-use` is left out on purpose: the default respects USE flags like `y`, but `y` also suppresses the proposals
        // of USE changes (`create_depgraph_params.py`).
        let resolve = format!("--with-bdeps={}", if self.opts.with_bdeps.unwrap_or(true) { "y" } else { "n" });
        match &self.goal {
            Goal::RebuildWorld => {
                argv.push(resolve);
                argv.extend(["--emptytree", "@world"].map(str::to_owned));
            }
            Goal::Packages { atoms, existing, oneshot } => {
                argv.push(resolve);
                match existing {
                    Existing::Keep => argv.push("--noreplace".to_owned()),
                    Existing::Update => argv.extend(["--update", "--deep", "--newuse"].map(str::to_owned)),
                    Existing::Rebuild => {}
                }
                if *oneshot {
                    argv.push("--oneshot".to_owned());
                }
                if atoms.is_empty() {
                    return Err(Error::NoAtoms);
                }
                for atom in atoms {
                    argv.push(checked(atom)?.to_owned());
                }
            }
            Goal::Resume => argv.push("--resume".to_owned()),
            Goal::Depclean => {}
        }
        Ok(())
    }
}

fn checked(atom: &str) -> Result<&str, Error> {
    let refused = atom.is_empty() || atom.starts_with('-') || atom.chars().any(|c| c.is_whitespace() || c.is_control());
    if refused { Err(Error::Atom { atom: atom.to_owned() }) } else { Ok(atom) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: &str = "emerge --ignore-default-opts --color=n --ask=n --nospinner --autounmask=y --autounmask-keep-masks=y --autounmask-write=n \
                          --autounmask-continue=n --keep-going=n --quiet-build=y";

    fn packages(existing: Existing, oneshot: bool) -> Goal {
        Goal::Packages { atoms: vec!["@system".to_owned(), ">=app-misc/hello-2.10:0[nls]".to_owned()], existing, oneshot }
    }

    #[test]
    fn arguments() {
        let resolve = "--with-bdeps=y";
        let atoms = "@system >=app-misc/hello-2.10:0[nls]";
        let cases = [
            (Goal::RebuildWorld, Mode::Run, format!("{resolve} --emptytree @world")),
            (Goal::RebuildWorld, Mode::Pretend, format!("--pretend --verbose=y {resolve} --emptytree @world")),
            (packages(Existing::Keep, false), Mode::Run, format!("{resolve} --noreplace {atoms}")),
            (
                packages(Existing::Update, false),
                Mode::Pretend,
                format!("--pretend --verbose=y {resolve} --update --deep --newuse {atoms}"),
            ),
            (packages(Existing::Rebuild, true), Mode::Run, format!("{resolve} --oneshot {atoms}")),
            (Goal::Resume, Mode::Run, "--resume".to_owned()),
        ];
        for (goal, mode, rest) in cases {
            let request = Request { jobs: 3, load: Some(2.5), ..Request::new(goal.clone(), mode) };
            let argv = request.argv().expect("valid atoms").join(" ");
            assert_eq!(argv, format!("{ALWAYS} --jobs=3 --load-average=2.5 --usepkg=y --buildpkg=y {rest}"), "{goal:?} {mode:?}");
        }
    }

    #[test]
    fn what_a_configuration_wants_is_taken_over_within_bounds() {
        let more = vec!["--backtrack=100".to_owned()];
        let opts = DefaultOpts { jobs: Some(2), load: Some(9.0), keep_going: Some(true), with_bdeps: Some(false), more };
        let request = |jobs| Request { jobs, load: Some(4.0), opts: opts.clone(), ..Request::new(Goal::RebuildWorld, Mode::Run) };
        let argv = request(3).argv().expect("no atoms").join(" ");
        for word in [" --jobs=2 ", " --load-average=4.0 ", " --keep-going=y ", " --with-bdeps=n ", " --backtrack=100 "] {
            assert!(argv.contains(word), "{word} in {argv}");
        }
        assert!(request(1).argv().expect("no atoms").join(" ").contains(" --jobs=1 "));
        let depclean = Request { opts, ..Request::new(Goal::Depclean, Mode::Run) };
        assert!(!depclean.argv().expect("no atoms").join(" ").contains("backtrack"));
    }

    #[test]
    fn depclean_takes_no_build_options() {
        let argv = |mode| Request::new(Goal::Depclean, mode).argv().expect("no atoms").join(" ");
        assert_eq!(argv(Mode::Run), "emerge --ignore-default-opts --color=n --ask=n --nospinner --depclean");
        assert_eq!(argv(Mode::Pretend), "emerge --ignore-default-opts --color=n --ask=n --nospinner --depclean --pretend");
    }

    #[test]
    fn packages_that_are_built_whatever_the_pool_has() {
        let request =
            Request { usepkg_exclude: vec!["a/b".to_owned(), "c/d".to_owned()], ..Request::new(Goal::RebuildWorld, Mode::Run) };
        assert!(request.argv().expect("valid").join(" ").contains(" --usepkg-exclude=a/b --usepkg-exclude=c/d "));
        let request = Request { buildpkg_exclude: vec!["a/b".to_owned()], ..Request::new(Goal::RebuildWorld, Mode::Run) };
        assert!(request.argv().expect("valid").join(" ").contains(" --buildpkg=y --buildpkg-exclude=a/b "));
    }

    #[test]
    fn masks_are_lifted_in_proposals_only_when_asked_for() {
        let request = Request { propose_unmask: true, ..Request::new(Goal::RebuildWorld, Mode::Pretend) };
        assert!(request.argv().expect("valid").contains(&"--autounmask-keep-masks=n".to_owned()));
    }

    #[test]
    fn what_is_foreseen_is_the_same_goal() {
        let run = Request::new(packages(Existing::Keep, false), Mode::Run);
        assert_eq!(run.with_mode(Mode::Pretend).goal, run.goal);
    }

    #[test]
    fn atoms_are_never_options() {
        for atom in ["--unmerge", "", "a/b c/d", "a/b\n"] {
            let goal = Goal::Packages { atoms: vec![atom.to_owned()], existing: Existing::Keep, oneshot: false };
            let error = Request::new(goal, Mode::Run).argv().expect_err(atom);
            assert_eq!(error.to_string(), format!("`{atom}` is not a package atom or set"));
        }
        let none = Goal::Packages { atoms: vec![], existing: Existing::Keep, oneshot: false };
        assert_eq!(Request::new(none, Mode::Run).argv(), Err(Error::NoAtoms));
    }
}
