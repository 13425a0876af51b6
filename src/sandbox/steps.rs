//! PID 1 executes the steps of a plan.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode};

use super::isolation::Proc;
use super::plan::MountCalls;
use super::plan::{Network, Plan, Source, Step};
use crate::beneath::{self, RootDir, TreeDir, Way};
use crate::sys::mount::{self, Attributes, NewFileSystem};
use crate::sys::overlay::{Layer, Overlay, Writable};
use crate::sys::{Error, Result, mountcompat};

/// `/dev` holds a few links and the places of devices. A session must not fill our memory through it.
const DEV_BYTES: u64 = 1 << 20;
const DEV_INODES: u64 = 1024;

/// The root being made.
#[derive(Debug)]
pub(crate) struct Building<'plan> {
    plan: &'plan Plan,
    calls: MountCalls,
    root: Option<RootDir>,
    /// What will be bound, cloned (`open_tree`) while a path of the host still means what the user sees: later steps mount over some of
    /// them.
    sources: VecDeque<OwnedFd>,
}

impl<'plan> Building<'plan> {
    pub(crate) fn new(plan: &'plan Plan, calls: MountCalls) -> Self {
        Self { plan, calls, root: None, sources: VecDeque::new() }
    }

    /// Executes all steps. An error comes with the index of its step. `before_pivot` runs while the old root is still there.
    pub(crate) fn execute(mut self, mut before_pivot: impl FnMut() -> Result<()>) -> std::result::Result<RootDir, (usize, Error)> {
        for (index, step) in self.plan.steps.iter().enumerate() {
            if let Step::Bind { source, .. } | Step::BindRoot { source, .. } = step {
                let named = mount::name(source).and_then(|place| mount::clone_tree(place.as_fd(), source));
                self.sources.push_back(named.map_err(|error| (index, error))?);
            }
        }
        for (index, step) in self.plan.steps.iter().enumerate() {
            let done = match step {
                Step::PivotRoot => before_pivot().and_then(|()| mount::pivot_into(self.root()?.as_fd())),
                other => self.step(other),
            };
            done.map_err(|error| (index, error))?;
        }
        let end = self.plan.steps.len();
        self.root.ok_or_else(|| (end, Error::new("pivot_root", "no root", rustix::io::Errno::INVAL)))
    }

    fn root(&self) -> Result<&RootDir> {
        self.root.as_ref().ok_or_else(|| Error::new("openat2", "no root yet", rustix::io::Errno::NOENT))
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::FreshDirectory { path } => fresh_directory(path),
            Step::Overlay { lower, upper, work, mountpoint, volatile } => {
                let lower: Vec<Layer> = lower.iter().map(|path| Layer::open(path)).collect::<Result<_>>()?;
                let (upper, work) = (Layer::open(upper)?, Layer::open(work)?);
                let overlay =
                    Overlay { lower: &lower, writable: Some(Writable { upper: &upper, work: &work, volatile: *volatile }) };
                let root = overlay.mount_on(mountpoint, self.newest())?;
                self.root = Some(self.root_of(root));
                Ok(())
            }
            Step::OverlayAt { lower, upper, work, target } => {
                let place = self.root()?.directory(target, 0o755)?;
                let lower: Vec<Layer> = lower.iter().map(|source| self.layer(source)).collect::<Result<_>>()?;
                let (upper, work) = (Layer::open(upper)?, Layer::open(work)?);
                let overlay = Overlay { lower: &lower, writable: Some(Writable { upper: &upper, work: &work, volatile: true }) };
                overlay.mount_at(place.as_fd(), target, self.newest()).map(drop)
            }
            Step::BindRoot { source, read_only } => self.bind_root(source, *read_only),
            Step::Bind { source, target, read_only } => self.bind(source, target, *read_only),
            Step::BindInside { top, inside, target } => self.bind_inside(top, inside, target),
            Step::Tmpfs { target, size, mode } => self.tmpfs(target, *size, *mode),
            Step::Proc { target, proc } => self.proc(target, *proc),
            Step::Sys { target } => self.sys(target),
            Step::Dev { target } => self.dev(target),
            Step::Directory { path, mode } => Ok(self.root()?.directory(path, *mode).map(drop)?),
            Step::File { path, contents, mode } => Ok(self.root()?.write(path, contents.as_bytes(), *mode)?),
            Step::Symlink { path, to } => Ok(self.root()?.symlink(path, to)?),
            Step::Remove { path } => Ok(self.root()?.remove(path)?),
            Step::ConfigurationDirectory { name } => self.configuration_directory(name),
            Step::PivotRoot => Ok(()),
        }
    }

    fn newest(&self) -> bool {
        self.calls == MountCalls::Newest
    }

    fn way(&self) -> Way {
        if self.calls == MountCalls::Oldest { Way::Stepwise } else { Way::Kernel }
    }

    /// Errors name what is in a root by its path in there.
    fn root_of(&self, root: OwnedFd) -> RootDir {
        RootDir::from_fd(root, "/").by(self.way())
    }

    /// Opens a layer. Somebody else has made what is inside, so no link is followed there.
    fn layer(&self, source: &Source) -> Result<Layer> {
        let Source { directory, inside } = source;
        if inside.as_os_str().is_empty() {
            return Layer::open(directory);
        }
        let tree = TreeDir::open(directory)?.by(self.way());
        let fd = tree.open_dir(inside)?;
        Ok(Layer::from_fd(fd.into(), tree.shown(inside)))
    }

    fn bind_root(&mut self, source: &Path, read_only: bool) -> Result<()> {
        let tree = self.sources.pop_front().ok_or_else(|| Error::new("open_tree", source.display(), rustix::io::Errno::NOENT))?;
        // `pivot_root` takes only a mount that is attached. Its own source is a directory that certainly exists.
        let target = mount::name(source)?;
        self.attach_source(&tree, target.as_fd(), source, read_only)?;
        self.root = Some(self.root_of(tree));
        Ok(())
    }

    fn bind(&mut self, source: &Path, target: &Path, read_only: bool) -> Result<()> {
        let tree = self.sources.pop_front().ok_or_else(|| Error::new("open_tree", source.display(), rustix::io::Errno::NOENT))?;
        let root = self.root()?;
        let is_directory = beneath::is_directory(tree.as_fd()).map_err(Error::of("fstat", source.display()))?;
        let place = if is_directory { root.directory(target, 0o755)? } else { root.file_target(target)? };
        self.attach_source(&tree, place.as_fd(), target, read_only)
    }

    /// The session may have made what is at `source`; both sides are looked up as in its root.
    fn bind_inside(&self, top: &Path, inside: &Path, target: &Path) -> Result<()> {
        let root = self.root()?;
        let mut source = TreeDir::from_fd(root.directory(top, 0o755)?, top).by(self.way());
        for name in inside {
            if source.kind(name)? != Some(FileType::Directory) {
                source.remove(name)?;
                source.make_dir(name, 0o755)?;
            }
            source = source.open_dir(name)?;
        }
        let tree = mount::clone_tree(source.as_fd(), &top.join(inside))?;
        mount::attach(tree.as_fd(), root.directory(target, 0o755)?.as_fd(), target.display())
    }

    fn attach_source(&self, tree: &OwnedFd, place: BorrowedFd<'_>, target: &Path, read_only: bool) -> Result<()> {
        let shown = target.display().to_string();
        // Set on the detached tree and recursively, so that nobody ever sees a writable mount. Before Linux 5.12 there is no
        // `mount_setattr`: then it is remounted once it is attached.
        let attributes = Attributes { read_only: true, ..Attributes::default() };
        let mut late = read_only && self.calls == MountCalls::Oldest;
        if read_only && !late {
            match mount::set_attributes(tree.as_fd(), attributes, &shown) {
                Err(error) if error.errno() == Some(libc::ENOSYS) => late = true,
                answer => answer?,
            }
        }
        mount::attach(tree.as_fd(), place, &shown)?;
        if late { mountcompat::set_read_only(tree.as_fd(), &shown) } else { Ok(()) }
    }

    fn attach(&self, filesystem: &OwnedFd, target: &Path) -> Result<()> {
        let place = self.root()?.directory(target, 0o755)?;
        mount::attach(filesystem.as_fd(), place.as_fd(), target.display())
    }

    fn tmpfs(&self, target: &Path, size: Option<u64>, mode: u32) -> Result<()> {
        self.attach(&tmpfs(size, None, mode, Attributes::TEMPORARY)?, target)
    }

    fn proc(&self, target: &Path, proc: Proc) -> Result<()> {
        if proc == Proc::Shared {
            return self.bind_host(Path::new("/proc"), target);
        }
        let attributes = Attributes { read_only: proc == Proc::NewReadOnly, ..Attributes::KERNEL };
        self.attach(&NewFileSystem::open("proc")?.mount(attributes)?, target)
    }

    /// The kernel mounts a fresh sysfs only for the owner of the network namespace, and only if the host hides no part of its own. Else
    /// the host's is bound.
    fn sys(&self, target: &Path) -> Result<()> {
        if self.plan.network == Network::None {
            let attributes = Attributes { read_only: true, ..Attributes::KERNEL };
            if let Ok(sysfs) = NewFileSystem::open("sysfs").and_then(|sysfs| sysfs.mount(attributes)) {
                return self.attach(&sysfs, target);
            }
        }
        self.bind_host(Path::new("/sys"), target)
    }

    /// Shows a file system that the kernel fills as the host has it, read-only. A clone of the whole tree: a plain bind is EINVAL, since
    /// the mounts on it are locked in our namespace.
    fn bind_host(&self, source: &Path, target: &Path) -> Result<()> {
        let tree = mount::clone_tree(mount::name(source)?.as_fd(), source)?;
        let place = self.root()?.directory(target, 0o755)?;
        self.attach_source(&tree, place.as_fd(), target, true)
    }

    fn dev(&self, target: &Path) -> Result<()> {
        let no_exec = Attributes { no_suid: true, no_exec: true, ..Attributes::default() };
        // The devices are mounts of the host's `/dev`. The flags of the tmpfs below do not apply to them.
        self.attach(&tmpfs(Some(DEV_BYTES), Some(DEV_INODES), 0o755, no_exec)?, target)?;
        let root = self.root()?;
        for name in ["null", "zero", "full", "random", "urandom", "tty"] {
            let source = Path::new("/dev").join(name);
            let device = mount::clone_tree(mount::name(&source)?.as_fd(), &source)?;
            let path = target.join(name);
            mount::attach(device.as_fd(), root.file_target(&path)?.as_fd(), path.display())?;
        }
        self.attach(&devpts()?, &target.join("pts"))?;
        self.attach(&tmpfs(None, None, 0o1777, Attributes::TEMPORARY)?, &target.join("shm"))?;
        // A kernel without POSIX message queues is fine: no build needs them.
        if let Ok(queues) = NewFileSystem::open("mqueue").and_then(|queues| queues.mount(Attributes::KERNEL)) {
            self.attach(&queues, &target.join("mqueue"))?;
        }
        for (name, to) in [
            ("ptmx", "pts/ptmx"),
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            root.symlink(&target.join(name), Path::new(to))?;
        }
        Ok(())
    }

    fn configuration_directory(&self, name: &str) -> Result<()> {
        let root = self.root()?;
        let place = &Path::new("/etc/portage").join(name);
        match root.kind(place)? {
            Some(FileType::Directory) => Ok(()),
            None => Ok(root.directory(place, 0o755).map(drop)?),
            Some(_) => {
                // The directory gets the name of the file, so the file is moved aside first.
                let aside = &place.with_file_name(format!(".{name}.gentoomuch"));
                root.rename(place, aside)?;
                root.directory(place, 0o755)?;
                Ok(root.rename(aside, &place.join(Step::name_in_directory(name)))?)
            }
        }
    }
}

fn fresh_directory(path: &Path) -> Result<()> {
    beneath::remove_tree(path)?;
    rustix::fs::mkdir(path, Mode::RWXU).map_err(Error::of("mkdir", path.display()))
}

fn tmpfs(size: Option<u64>, inodes: Option<u64>, mode: u32, attributes: Attributes) -> Result<OwnedFd> {
    let tmpfs = NewFileSystem::open("tmpfs")?;
    tmpfs.string("mode", &format!("{mode:o}"))?;
    if let Some(bytes) = size {
        tmpfs.string("size", &bytes.to_string())?;
    }
    if let Some(inodes) = inodes {
        tmpfs.string("nr_inodes", &inodes.to_string())?;
    }
    tmpfs.mount(attributes)
}

/// Group 5 is `tty` on every Gentoo system. Without subordinate ids it is not mapped, and the kernel answers EINVAL.
fn devpts() -> Result<OwnedFd> {
    let make = |gid: Option<&str>| {
        let devpts = NewFileSystem::open("devpts")?;
        devpts.flag("newinstance")?;
        devpts.string("ptmxmode", "0666")?;
        devpts.string("mode", "0620")?;
        gid.map_or(Ok(()), |gid| devpts.string("gid", gid))?;
        devpts.mount(Attributes { no_suid: true, no_exec: true, ..Attributes::default() })
    };
    match make(Some("5")) {
        Err(error) if error.errno() == Some(libc::EINVAL) => make(None),
        answer => answer,
    }
}
