//! From what is asked for by name to a package: the ways there, and what has no other way. Pure.

use std::collections::{BTreeSet, VecDeque};

use crate::query::why::{Graph, Need, Root};

/// A graph of packages, by their numbers.
#[derive(Debug)]
pub(super) struct Chains<'a> {
    graph: &'a Graph,
    /// Of each package the needs that it has.
    below: Vec<Vec<&'a Need>>,
}

/// A way to a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain<'a> {
    pub(super) root: &'a Root,
    /// From the root's package to the one in question; none if that is the root's.
    pub(super) needs: Vec<&'a Need>,
}

impl<'a> Chains<'a> {
    /// Of a graph within `count` packages.
    pub(super) fn new(graph: &'a Graph, count: usize) -> Self {
        let mut below = vec![Vec::new(); count];
        for need in &graph.needs {
            below[need.from].push(need);
        }
        Self { graph, below }
    }

    /// The shortest way from any root to each package that is reached without `avoided`: the need by which it is reached. A root's package
    /// has none. Needs of a running package come first.
    fn reached(&self, avoided: Option<usize>) -> Vec<Option<Reached<'a>>> {
        let mut reached = vec![None; self.below.len()];
        let mut waiting = VecDeque::new();
        for root in self.graph.roots.iter().filter(|root| Some(root.package) != avoided) {
            if reached[root.package].is_none() {
                reached[root.package] = Some(Reached::Root(root));
                waiting.push_back(root.package);
            }
        }
        while let Some(from) = waiting.pop_front() {
            let by_kind = [true, false].into_iter().flat_map(|run| self.below[from].iter().filter(move |need| need.run == run));
            for need in by_kind.filter(|need| Some(need.to) != avoided) {
                if reached[need.to].is_none() {
                    reached[need.to] = Some(Reached::By(need));
                    waiting.push_back(need.to);
                }
            }
        }
        reached
    }

    /// The ways to `target`: one from each root that names it, and the shortest through each package that needs it directly and is needed
    /// itself. Short ones first, and those on which it is needed to run.
    pub(super) fn to(&self, target: usize) -> Vec<Chain<'a>> {
        let named = self.graph.roots.iter().filter(|root| root.package == target).map(|root| Chain { root, needs: Vec::new() });
        let mut chains: Vec<Chain<'a>> = named.collect();
        let reached = self.reached(Some(target));
        let mut through: Vec<Chain<'a>> = self
            .graph
            .needs
            .iter()
            .filter(|need| need.to == target)
            .filter_map(|need| {
                let mut needs = vec![need];
                let mut at = need.from;
                loop {
                    match reached[at]? {
                        Reached::Root(root) => {
                            needs.reverse();
                            return Some(Chain { root, needs });
                        }
                        Reached::By(need) => {
                            needs.push(need);
                            at = need.from;
                        }
                    }
                }
            })
            .collect();
        through.sort_by_key(|chain| (chain.needs.iter().any(|need| !need.run), chain.needs.len()));
        chains.extend(through);
        chains
    }

    /// The package and what nothing but it leads to: what a system without it would not need either.
    pub(super) fn only_by(&self, target: usize) -> BTreeSet<usize> {
        let (with, without) = (self.reached(None), self.reached(Some(target)));
        let lost = (0..self.below.len()).filter(|at| with[*at].is_some() && without[*at].is_none());
        lost.chain([target]).collect()
    }
}

#[derive(Debug, Clone, Copy)]
enum Reached<'a> {
    Root(&'a Root),
    By(&'a Need),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `roots` are packages, `needs` are pairs; those of a build end with `b`.
    fn graph(roots: &[usize], needs: &str) -> Graph {
        let root = |package: &usize| Root {
            set: "selected".into(),
            atom: format!("p/{package}"),
            place: String::new(),
            package: *package,
        };
        let need = |text: &str| {
            let (from, to) = text.trim_end_matches('b').split_once('>').unwrap();
            Need { from: from.parse().unwrap(), to: to.parse().unwrap(), atom: format!("p/{to}"), run: !text.ends_with('b') }
        };
        let needs = needs.split(' ').filter(|text| !text.is_empty()).map(need).collect();
        Graph { targets: Vec::new(), roots: roots.iter().map(root).collect(), needs, unread: Vec::new() }
    }

    fn ways(graph: &Graph, count: usize, target: usize) -> Vec<String> {
        let words = |chain: Chain<'_>| {
            let needs = chain.needs.iter().map(|need| format!("{}{}", need.to, if need.run { "" } else { "b" }));
            std::iter::once(chain.root.package.to_string()).chain(needs).collect::<Vec<_>>().join(">")
        };
        Chains::new(graph, count).to(target).into_iter().map(words).collect()
    }

    fn lost(graph: &Graph, count: usize, target: usize) -> Vec<usize> {
        Chains::new(graph, count).only_by(target).into_iter().collect()
    }

    #[test]
    fn a_way_for_each_that_needs_it() {
        // 0 and 1 are roots; 5 needs 3 as well, but nothing needs 5.
        let graph = graph(&[0, 1], "0>2 2>3 1>3b 1>4 4>3 5>3");
        assert_eq!(ways(&graph, 6, 3), ["0>2>3", "1>4>3", "1>3b"]);
        assert_eq!(ways(&graph, 6, 0), ["0"]);
        assert_eq!(ways(&graph, 6, 5), [] as [&str; 0]);
        // A root that others need, too.
        let named = super::tests::graph(&[0, 1], "0>1");
        assert_eq!(ways(&named, 2, 1), ["1", "0>1"]);
    }

    #[test]
    fn circles_end() {
        let graph = graph(&[0], "0>1 1>2 2>1 2>3 3>2 3>0");
        assert_eq!(ways(&graph, 4, 2), ["0>1>2"]);
        assert_eq!(ways(&graph, 4, 1), ["0>1"]);
        assert_eq!(lost(&graph, 4, 1), [1, 2, 3]);
        // Not reached by anybody: the same as if it were installed by hand.
        let lonely = super::tests::graph(&[], "0>1 1>0");
        assert_eq!((ways(&lonely, 2, 0).len(), lost(&lonely, 2, 0)), (0, vec![0]));
    }

    #[test]
    fn what_others_need_stays() {
        // 3 is needed by 1 and by 2; 4 by 1 alone; 5 by 1, and to build 2.
        let graph = graph(&[0, 2], "0>1 1>3 2>3 1>4 1>5 2>5b 4>6");
        assert_eq!(lost(&graph, 7, 1), [1, 4, 6]);
        assert_eq!(lost(&graph, 7, 3), [3]);
        assert_eq!(lost(&graph, 7, 0), [0, 1, 4, 6]);
    }
}
