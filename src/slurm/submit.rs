//! From planned nodes to jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::run_dir::{Jobs, Plan, PlannedNode, RunDir, Submitted, read, runs, shared_dir};
use super::{Asked, Error, Result, cluster, configuration_digest, place, trees};
use crate::beneath::{NAMES_LIMIT, TreeDir};
use crate::causes;
use crate::config::ConfigDir;
use crate::config::slurm::Slurm;
use crate::context::{self, Context};
use crate::durable::{self, Mode};
use crate::pipeline::{Node, NodeKind, Pipeline};
use crate::remote::{self, Remote};
use crate::store::InMap as _;

/// How many jobs an array has at most: Slurm's own limit is 1001, unless a cluster says otherwise.
const ARRAY: usize = 1000;

/// How jobs are submitted.
#[derive(Debug, Clone)]
pub(crate) struct Submitter {
    pub(crate) slurm: Slurm,
    pub(crate) asked: Asked,
    /// The program with its options, up to the command.
    pub(crate) program: Vec<String>,
    /// Jobs of each build.
    pub(crate) jobs: Option<u32>,
}

/// Whether a node becomes a job. What the remote has is fetched, and files are made here.
pub(super) fn is_job(node: &Node) -> bool {
    node.build && !node.fetch && node.kind != NodeKind::Artifact
}

/// Submits the nodes of a pipeline that have to be built; `None` if there are none.
pub(crate) fn submit(cx: &Context<'_>, config: &ConfigDir, pipeline: &Pipeline<'_, '_>, how: Submitter) -> Result<Option<RunDir>> {
    let mut nodes = Vec::new();
    for node in pipeline.nodes() {
        if is_job(node) || (node.build && node.fetch && !counts(cx, node)?) {
            nodes.push(node);
        }
    }
    if nodes.is_empty() {
        return Ok(None);
    }
    let remote = usable_remote(cx)?;
    let configuration = configuration_digest(config.root())?;
    let shared = shared_dir(&cx.places.data, &how.slurm);
    let archives = shared.join("trees");
    place::own(&shared)?;
    durable::make_dirs(&archives, Mode::Exactly(0o700))?;
    sweep(cx, &shared, &archives);
    let shipped = pipeline.trees().iter().map(|tree| trees::ship(cx, &archives, tree)).collect::<Result<_>>()?;
    let mut nodes = planned_nodes(cx, &remote, pipeline, &nodes)?;
    in_groups(&mut nodes);
    let options = options_of(&how.slurm);
    let Submitter { slurm, asked, program, jobs } = how;
    let jobs = slurm.cpus.or(jobs);
    let (directory, distfiles) = (slurm.directory, slurm.distfiles);
    let plan = Plan { asked, configuration, program, jobs, options, directory, distfiles, trees: shipped, nodes };
    let run = RunDir::create(&shared, plan)?;
    let jobs = run.plan.nodes.len();
    cx.observer.step(&format!("submitting {jobs} {}", if jobs == 1 { "job" } else { "jobs" }));
    let mut submitted = Jobs::new();
    if let Err(error) = submit_all(cx, &run, &mut submitted) {
        cancel(cx, &run, &submitted);
        forget(cx, &run);
        return Err(error);
    }
    Ok(Some(run))
}

/// Whether what the remote has of a node will be taken: anybody may have put something there under its key.
fn counts(cx: &Context<'_>, node: &Node) -> Result<bool> {
    context::not_interrupted(cx)?;
    let key = node.key.as_deref().unwrap_or_default();
    match Remote::open(cx).and_then(|remote| remote.counts(key)) {
        Ok(counts) => Ok(counts),
        Err(error) => {
            context::not_interrupted(cx)?;
            let words = causes::in_one_line(&error);
            cx.observer.warn(&format!("what the remote has of `{}` does not count, so it is submitted: {words}", node.id));
            Ok(false)
        }
    }
}

/// The remote, if jobs can hand states to each other by it.
fn usable_remote<'c>(cx: &'c Context<'_>) -> Result<Remote<'c>> {
    let settings = cx.settings.remote.as_deref().filter(|settings| settings.push).ok_or(Error::NoRemote)?;
    let place = settings.address.to_string();
    if settings.is_down() {
        return Err(Error::Down { place });
    }
    settings.try_signer().map_err(|source| remote::Error::Sign { place, source })?;
    Ok(Remote::open(cx)?)
}

/// The nodes with what their stores need. What of that only our store has is pushed.
fn planned_nodes(cx: &Context<'_>, remote: &Remote<'_>, pipeline: &Pipeline<'_, '_>, nodes: &[&Node]) -> Result<Vec<PlannedNode>> {
    let ids: BTreeSet<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
    let (mut planned, mut pushed) = (Vec::new(), BTreeSet::new());
    for node in nodes {
        let mut given = BTreeMap::new();
        for (name, state) in pipeline.given(node)? {
            context::not_interrupted(cx)?;
            if pushed.insert(state.id.clone()) {
                cx.observer.step(&format!("pushing {name}"));
                remote::push(remote, &state, Some(&name))?;
            }
            given.insert(name, state.key);
        }
        planned.push(PlannedNode {
            id: node.id.clone(),
            key: node.key.clone().unwrap_or_default(),
            needs: node.needs.iter().filter(|id| ids.contains(id.as_str())).cloned().collect(),
            given,
        });
    }
    Ok(planned)
}

fn options_of(slurm: &Slurm) -> Vec<String> {
    let Slurm { partition, time, memory, cpus, options, .. } = slurm;
    let option = |name: &str, value: Option<String>| value.map(|value| format!("--{name}={value}"));
    let memory = memory.map(|bytes| format!("{}K", bytes >> 10));
    let known = [
        option("partition", partition.clone()),
        option("time", time.clone()),
        option("mem", memory),
        option("cpus-per-task", cpus.map(|cpus| cpus.to_string())),
    ];
    known.into_iter().flatten().chain(options.iter().cloned()).collect()
}

fn submit_all(cx: &Context<'_>, run: &RunDir, submitted: &mut Jobs) -> Result<()> {
    for nodes in groups(&run.plan.nodes) {
        context::not_interrupted(cx)?;
        let after: Vec<String> = nodes[0].needs.iter().filter_map(|id| Some(submitted.get(id)?.job.clone())).collect();
        // Each is written down at once: if this process is killed, those that attach know the jobs.
        if let Some(array) = submit_array(cx, run, nodes, &after)? {
            for node in nodes {
                let job = format!("{array}_{}", task(run.index(&node.id)?));
                submitted.insert(node.id.clone(), Submitted { job, ..Submitted::default() });
            }
            run.set_jobs(submitted)?;
            continue;
        }
        for node in nodes {
            context::not_interrupted(cx)?;
            let job = submit_node(cx, run, node, &after)?;
            submitted.insert(node.id.clone(), Submitted { job, ..Submitted::default() });
            run.set_jobs(submitted)?;
        }
    }
    Ok(())
}

/// Submits nodes that wait for the same jobs as one array. `None`: it is a single one, or this cluster has no arrays, or only smaller ones.
fn submit_array(cx: &Context<'_>, run: &RunDir, nodes: &[PlannedNode], after: &[String]) -> Result<Option<String>> {
    if nodes.len() == 1 {
        return Ok(None);
    }
    match cluster::submit(cx, &arguments(run, nodes, after)?, &script(run, nodes)?) {
        Ok(job) => Ok(Some(job)),
        Err(error) if error.last_lines().iter().any(|line| line.contains("job array")) => {
            tracing::info!(%error, "the jobs are submitted one by one");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Nodes that can be one job array: they wait for the same jobs. Each is below [`ARRAY`], as Slurm counts tasks.
fn groups(nodes: &[PlannedNode]) -> Vec<&[PlannedNode]> {
    nodes.chunks(ARRAY).flat_map(|chunk| chunk.chunk_by(|one, other| one.needs == other.needs)).collect()
}

/// The number of a node in its array.
fn task(index: usize) -> usize {
    index % ARRAY
}

/// Puts nodes that wait for the same ones beside each other, each after those that it needs.
fn in_groups(nodes: &mut [PlannedNode]) {
    let mut depths: BTreeMap<String, usize> = BTreeMap::new();
    for node in nodes.iter() {
        let needs = node.needs.iter().filter_map(|id| depths.get(id));
        let depth = needs.max().map_or(0, |most| most + 1);
        depths.insert(node.id.clone(), depth);
    }
    nodes.sort_by(|one, other| (depths.get(&one.id), &one.needs).cmp(&(depths.get(&other.id), &other.needs)));
}

/// Ends all jobs of a run that may still wait or run: those of nodes without a result, those before them, and what nobody has written down.
pub(super) fn cancel(cx: &Context<'_>, run: &RunDir, submitted: &Jobs) {
    let mut jobs = unfinished(run, submitted);
    // Of those of finished nodes, one may be about to remove its directory.
    let known: BTreeSet<&str> = submitted.values().map(|submitted| submitted.job.as_str()).collect();
    match cluster::jobs_of(cx, &run.dir) {
        Ok(found) => jobs.extend(found.into_iter().filter(|job| !known.contains(job.as_str()))),
        Err(error) if jobs.is_empty() => tracing::debug!(%error, "no job is known that could be left"),
        Err(error) => cx.observer.warn(&format!("jobs may be left: {}", causes::in_one_line(&error))),
    }
    let jobs: Vec<String> = jobs.into_iter().collect();
    if let Err(error) = cluster::cancel(cx, &jobs) {
        let words = causes::in_one_line(&error);
        cx.observer.warn(&format!("jobs may be left (`scancel {}` ends them): {words}", jobs.join(" ")));
    }
}

/// Cancels the jobs of a run that nobody wants any more, and forgets it.
pub(crate) fn end(cx: &Context<'_>, run: &RunDir) -> Result<()> {
    cancel(cx, run, &run.jobs()?);
    forget(cx, run);
    Ok(())
}

/// Jobs that may go on, as far as they are written down.
fn unfinished(run: &RunDir, submitted: &Jobs) -> BTreeSet<String> {
    let is_open = |id: &String| !run.result(id).is_ok_and(|result| result.is_some());
    let last = submitted.iter().filter(|(id, _)| is_open(id)).map(|(_, submitted)| &submitted.job);
    last.chain(submitted.values().flat_map(|submitted| &submitted.before)).cloned().collect()
}

/// Submits one node, which waits for the jobs `after`.
pub(super) fn submit_node(cx: &Context<'_>, run: &RunDir, node: &PlannedNode, after: &[String]) -> Result<String> {
    let nodes = std::slice::from_ref(node);
    cluster::submit(cx, &arguments(run, nodes, after)?, &script(run, nodes)?)
}

/// Options of one job, or of an array of jobs that lie beside each other in the plan.
fn arguments(run: &RunDir, nodes: &[PlannedNode], after: &[String]) -> Result<Vec<String>> {
    let [first, more @ ..] = nodes else { return Ok(Vec::new()) };
    let output = run.output(&first.id)?;
    // `%` begins a pattern there.
    let mut output_pattern = output.display().to_string().replace('%', "%%");
    let mut name = first.id.clone();
    if let Some(last) = more.last() {
        // The number of the node, as [`RunDir::output`] has it.
        output_pattern.truncate(output_pattern.len() - 3);
        output_pattern += "%3a";
        name = format!("{name}..{}", last.id);
    }
    let mut args = vec![
        "--parsable".to_owned(),
        format!("--job-name=gentoomuch:{name}"),
        format!("--output={output_pattern}"),
        format!("--chdir={}", run.dir.display()),
        "--open-mode=append".to_owned(),
        "--requeue".to_owned(),
        // Else what needs a node that has failed would wait for ever.
        "--kill-on-invalid-dep=yes".to_owned(),
    ];
    if let Some(last) = more.last() {
        args.push(format!("--array={}-{}", task(run.index(&first.id)?), task(run.index(&last.id)?)));
    }
    if !after.is_empty() {
        args.push(format!("--dependency=afterok:{}", after.join(":")));
    }
    // Last, so that the user's count.
    args.extend(run.plan.options.iter().cloned());
    Ok(args)
}

/// What a job runs: the program itself takes the shell's place, so that Slurm's signals reach it. The number of a job in its array says which
/// of the nodes it builds.
fn script(run: &RunDir, nodes: &[PlannedNode]) -> Result<String> {
    let mut words = run.plan.program.clone();
    words.extend(["pipeline", "node", "--configuration-digest", &run.plan.configuration, "--run"].map(str::to_owned));
    words.push(run.dir.display().to_string());
    if let Some(jobs) = run.plan.jobs {
        words.extend(["--jobs".to_owned(), jobs.to_string()]);
    }
    // Words with NUL come from no command line.
    let line = |words: &mut dyn Iterator<Item = &str>| shlex::try_join(words).unwrap_or_default();
    let (program, ids) = (line(&mut words.iter().map(String::as_str)), line(&mut nodes.iter().map(|node| node.id.as_str())));
    Ok(match nodes {
        [first, _, ..] => {
            let first = task(run.index(&first.id)?);
            format!("#!/bin/sh\nset -- {ids}\nshift $((SLURM_ARRAY_TASK_ID - {first}))\nexec {program} \"$1\"\n")
        }
        _ => format!("#!/bin/sh\nexec {program} {ids}\n"),
    })
}

/// Removes the directory of a run.
pub(super) fn forget(cx: &Context<'_>, run: &RunDir) {
    if let Err(error) = cx.launcher.remove_trees(std::slice::from_ref(&run.dir)) {
        tracing::debug!(%error, "the directory of a run stays");
    }
}

/// Removes archives of trees that no run names, and what is left of runs. What cannot be removed is no reason not to submit.
fn sweep(cx: &Context<'_>, shared: &Path, archives: &Path) {
    let plans = runs(shared).unwrap_or_default().into_iter().filter_map(|dir| read::<Plan>(&dir.join("run.json")).ok().flatten());
    let named: BTreeSet<PathBuf> =
        plans.flat_map(|plan| plan.trees).map(|tree| tree.archive().with_extension("").with_extension("")).collect();
    let entries = TreeDir::open(archives).and_then(|dir| dir.entries(NAMES_LIMIT)).unwrap_or_default();
    let paths =
        entries.iter().filter_map(|entry| entry.text()).filter(|name| !name.starts_with('.')).map(|name| archives.join(name));
    let is_old = |path: &PathBuf| {
        let modified = path.metadata().and_then(|meta| meta.modified()).ok();
        modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age > KEPT)
    };
    let stale = |path: &PathBuf| is_old(path) && !named.contains(&path.with_extension("").with_extension(""));
    let mut stale: Vec<PathBuf> = paths.filter(stale).collect();
    // What somebody has begun to remove.
    let halves = TreeDir::open(shared).and_then(|dir| dir.entries(NAMES_LIMIT)).unwrap_or_default();
    let halves = halves.iter().filter(|entry| entry.is_dir()).filter_map(|entry| entry.text()).map(|name| shared.join(name));
    stale.extend(halves.filter(|dir| *dir != archives && is_old(dir) && !dir.join("run.json").exists()));
    if !stale.is_empty()
        && let Err(error) = cx.launcher.remove_trees(&stale)
    {
        tracing::debug!(%error, "archives of trees stay");
    }
}

/// How long an archive of a tree stays that no run names: the next run probably has the same tree.
const KEPT: std::time::Duration = std::time::Duration::from_hours(24 * 7);

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> RunDir {
        let node = |id: &str, needs: &[&str]| PlannedNode {
            id: id.to_owned(),
            needs: needs.iter().map(|id| (*id).to_owned()).collect(),
            ..PlannedNode::default()
        };
        let plan = Plan {
            configuration: "sha256:00".to_owned(),
            program: ["/opt/a b/gentoomuch", "--config", "/c", "--push"].map(str::to_owned).into(),
            jobs: Some(8),
            options: options_of(&Slurm {
                partition: Some("build".to_owned()),
                memory: Some(16 << 30),
                cpus: Some(8),
                options: vec!["--account=gentoo".to_owned()],
                ..Slurm::default()
            }),
            nodes: vec![node("stage3/demo/plain", &[]), node("stage4/web", &["stage3/demo/plain"])],
            ..Plan::default()
        };
        RunDir { dir: "/shared/run".into(), plan }
    }

    #[test]
    fn a_job_waits_for_those_that_its_node_needs() {
        let run = run();
        let first = arguments(&run, &run.plan.nodes[..1], &[]).unwrap();
        assert!(!first.iter().any(|arg| arg.starts_with("--dependency")), "{first:?}");
        let args = arguments(&run, &run.plan.nodes[1..], &["12".to_owned(), "13".to_owned()]).unwrap();
        insta::assert_snapshot!(args.join("\n"), @r"
        --parsable
        --job-name=gentoomuch:stage4/web
        --output=/shared/run/output/0001
        --chdir=/shared/run
        --open-mode=append
        --requeue
        --kill-on-invalid-dep=yes
        --dependency=afterok:12:13
        --partition=build
        --mem=16777216K
        --cpus-per-task=8
        --account=gentoo
        ");
    }

    #[test]
    fn a_pattern_in_the_path_of_the_output_is_none() {
        let run = RunDir { dir: "/shared/50%j".into(), ..run() };
        let args = arguments(&run, &run.plan.nodes[1..], &[]).unwrap();
        assert_eq!(args[2], "--output=/shared/50%%j/output/0001");
        let both = arguments(&run, &run.plan.nodes, &[]).unwrap();
        assert_eq!(both[2], "--output=/shared/50%%j/output/0%3a");
    }

    #[test]
    fn all_jobs_that_may_go_on_are_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path(), run().plan).unwrap();
        run.set_result("stage3/demo/plain", &crate::slurm::run_dir::NodeResult::default()).unwrap();
        let job = |job: &str, before: &[&str]| Submitted {
            job: job.to_owned(),
            lost: 0,
            before: before.iter().map(|job| (*job).to_owned()).collect(),
        };
        let jobs =
            Jobs::from([("stage3/demo/plain".to_owned(), job("12", &["10"])), ("stage4/web".to_owned(), job("13", &["11"]))]);
        assert_eq!(unfinished(&run, &jobs).into_iter().collect::<Vec<_>>(), ["10", "11", "13"]);
    }

    #[test]
    fn what_waits_for_the_same_is_one_array() {
        let node = |id: &str, needs: &[&str]| PlannedNode {
            id: id.to_owned(),
            needs: needs.iter().map(|id| (*id).to_owned()).collect(),
            ..PlannedNode::default()
        };
        let mut run = run();
        run.plan.nodes = vec![
            node("a", &[]),
            node("stage4/one", &["a"]),
            node("b", &[]),
            node("stage4/deep", &["stage4/one"]),
            node("stage4/two", &["b"]),
            node("stage4/three d", &["a"]),
        ];
        in_groups(&mut run.plan.nodes);
        let ids = |nodes: &[PlannedNode]| nodes.iter().map(|node| node.id.clone()).collect::<Vec<_>>();
        let found: Vec<Vec<String>> = groups(&run.plan.nodes).into_iter().map(ids).collect();
        assert_eq!(found, [vec!["a", "b"], vec!["stage4/one", "stage4/three d"], vec!["stage4/two"], vec!["stage4/deep"]]);
        let second = &run.plan.nodes[2..4];
        let args = arguments(&run, second, &["12_0".to_owned()]).unwrap().join("\n");
        assert!(args.contains("\n--array=2-3\n--dependency=afterok:12_0\n"), "{args}");
        assert!(args.contains("--output=/shared/run/output/0%3a\n"), "{args}");
        // The shell finds the node.
        run.plan.program = vec!["echo".to_owned()];
        let script = script(&run, second).unwrap();
        let ran = std::process::Command::new("sh").args(["-c", &script]).env("SLURM_ARRAY_TASK_ID", "3").output().unwrap();
        assert!(String::from_utf8_lossy(&ran.stdout).ends_with("--jobs 8 stage4/three d\n"), "{ran:?}");
    }

    #[test]
    fn more_jobs_than_an_array_takes() {
        let mut nodes = vec![PlannedNode::default(); ARRAY + 2];
        in_groups(&mut nodes);
        assert_eq!(groups(&nodes).iter().map(|group| group.len()).collect::<Vec<_>>(), [ARRAY, 2]);
        assert_eq!((task(ARRAY - 1), task(ARRAY)), (ARRAY - 1, 0));
    }

    #[test]
    fn the_program_takes_the_place_of_the_shell() {
        let run = run();
        insta::assert_snapshot!(script(&run, &run.plan.nodes[1..]).unwrap(), @r"
        #!/bin/sh
        exec '/opt/a b/gentoomuch' --config /c --push pipeline node --configuration-digest sha256:00 --run /shared/run --jobs 8 stage4/web
        ");
    }
}
