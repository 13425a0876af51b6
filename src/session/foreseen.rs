//! What emerge would do, by `emerge --pretend`.

use crate::context::Context;
use crate::portage::emerge::request::{Mode, Request};
use crate::portage::emerge::resolution::{Merge, Resolution};
use crate::session::{Result, Work, emerge_argv, run};
/// emerge prints less about ten thousand packages.
const OUTPUT_LIMIT_BYTES: u64 = 16 << 20;

/// What a run is going to merge, in its order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Foreseen {
    /// Binary packages are without their build number.
    pub(crate) list: Vec<Merge>,
}

impl Foreseen {
    fn parse(output: &[u8]) -> Self {
        let list = Resolution::parse(output).list.into_iter();
        Self { list: list.map(|merge| Merge { cpv: merge.source_cpv().to_owned(), ..merge }).collect() }
    }

    /// Marks these packages as compiled, even if there are binary packages.
    pub(crate) fn compile(&mut self, cpvs: &[&str]) {
        for merge in self.list.iter_mut().filter(|merge| cpvs.contains(&merge.cpv.as_str())) {
            merge.binary = false;
        }
    }
}

/// Asks emerge what `request` would do. If that fails, the run itself will report it.
pub(crate) fn foresee(cx: &Context<'_>, work: &Work<'_>, request: &Request) -> Result<Foreseen> {
    let argv = emerge_argv::emerge_argv(cx, work, &request.with_mode(Mode::Pretend))?;
    let (_, output) = run::exit_and_output(cx, work, argv, OUTPUT_LIMIT_BYTES)?;
    Ok(Foreseen::parse(&output))
}
