//! Running `emerge`: its arguments, its live status, and what its logs say when it fails.

/// Where a running `emerge` stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EmergeStatus {
    /// Packages finished so far.
    pub done: usize,
    /// Packages in this run.
    pub total: usize,
    /// What is being worked on.
    pub running: Vec<EmergeTask>,
}

/// One package that `emerge` is working on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmergeTask {
    /// `category/name-version`.
    pub cpv: String,
    /// The phase, in ebuild terms (`compile`), or `merge`, `fetch`.
    pub phase: String,
    /// Seconds since the package was started.
    pub elapsed_secs: u64,
}
