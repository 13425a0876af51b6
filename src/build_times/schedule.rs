//! How long a pipeline will still take: its nodes are played through, as the pipeline would start them.

use std::collections::VecDeque;

use crate::progress::Left;

/// A node of the pipeline.
#[derive(Debug, Clone, Default)]
pub(crate) struct Task {
    /// What is left of it, or all of it if it has not begun; `None` if that is not known.
    pub(crate) left: Option<Left>,
    pub(crate) is_running: bool,
    /// The positions of the tasks that must be done before.
    pub(crate) needs: Vec<usize>,
    /// Only one of these goes on at a time.
    pub(crate) is_alone: bool,
}

/// What is left of all `tasks`, of which `workers` go on at a time. `None` if nothing is known.
pub(crate) fn left(tasks: &[Task], workers: usize) -> Option<Left> {
    if tasks.iter().all(|task| task.left.is_none()) {
        return None;
    }
    let secs = |at: usize| tasks[at].left.map_or(0, |left| left.secs);
    // The next one is near its front.
    let mut open: VecDeque<usize> = (0..tasks.len()).filter(|at| !tasks[*at].is_running).collect();
    let mut running: Vec<(u64, usize)> = (0..tasks.len()).filter(|at| tasks[*at].is_running).map(|at| (secs(at), at)).collect();
    let (mut done, mut now) = (vec![false; tasks.len()], 0);
    loop {
        while running.len() < workers.max(1) {
            let is_alone = running.iter().any(|(_, at)| tasks[*at].is_alone);
            let is_ready = |at: &usize| {
                tasks[*at].needs.iter().all(|need| done.get(*need).copied().unwrap_or(true)) && !(is_alone && tasks[*at].is_alone)
            };
            let Some(next) = open.iter().position(is_ready) else { break };
            if let Some(at) = open.remove(next) {
                running.push((now + secs(at), at));
            }
        }
        let Some(first) = running.iter().enumerate().min_by_key(|(_, (end, at))| (*end, *at)).map(|(index, _)| index) else {
            break;
        };
        let (end, at) = running.swap_remove(first);
        now = end;
        done[at] = true;
    }
    let unknown = tasks.iter().map(|task| task.left.map_or(1, |left| left.unknown)).sum();
    Some(Left { secs: now, unknown, guess: tasks.iter().any(|task| task.left.is_some_and(|left| left.guess)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(secs: u64, needs: &[usize]) -> Task {
        Task { left: Some(Left { secs, unknown: 0, guess: false }), needs: needs.into(), ..Task::default() }
    }

    #[test]
    fn the_longest_way_and_the_slots_decide() {
        let of = |tasks: &[Task], workers| left(tasks, workers).map(|left| left.secs);
        // A base with three on it.
        let tree = [task(100, &[]), task(30, &[0]), task(30, &[0]), task(30, &[0])];
        for (workers, want) in [(1, 190), (2, 160), (3, 130), (9, 130), (0, 190)] {
            assert_eq!(of(&tree, workers), Some(want), "{workers}");
        }
        // Archives are packed one after the other.
        let packed = [task(10, &[]), task(5, &[0]), task(5, &[0])].map(|task| Task { is_alone: !task.needs.is_empty(), ..task });
        assert_eq!(of(&packed, 8), Some(20));
        // One that runs holds its slot.
        let begun = [Task { is_running: true, ..task(40, &[]) }, task(10, &[]), task(10, &[])];
        assert_eq!((of(&begun, 2), of(&begun, 1)), (Some(40), Some(60)));
        // Needs that lead in a circle, which a plan never has, end all the same.
        assert_eq!(of(&[task(1, &[1]), task(1, &[0])], 2), Some(0));
        assert_eq!(of(&[], 2), None);
    }

    #[test]
    fn what_is_not_known_is_counted() {
        let tasks =
            [task(10, &[]), Task::default(), Task { left: Some(Left { secs: 5, unknown: 2, guess: true }), ..Task::default() }];
        assert_eq!(left(&tasks, 1), Some(Left { secs: 15, unknown: 3, guess: true }));
        assert_eq!(left(&[Task::default()], 1), None);
    }
}
