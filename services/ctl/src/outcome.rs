//! What comes into being by a step that an operator completes.

use clap::Args;
use tasker_client::v1::{
    CreateBatches, CreateSteps, Expansion, NoBatches, NoBranches, expansion::Outcome as Said,
};

use crate::payload;

/// The flags of a decision or batchable step: of one kind at most.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Outcome {
    /// Of a decision: bring this step into being, with what follows from it. May be given many times.
    #[arg(long, value_name = "NAME")]
    create_step: Vec<String>,
    /// Of a decision: bring none into being.
    #[arg(long)]
    no_branches: bool,
    /// Of a batchable step: run its worker for this, as JSON; @FILE reads a file, - reads standard input. May
    /// be given many times.
    #[arg(long, value_name = "JSON|@FILE|-")]
    create_batch: Vec<payload::Given>,
    /// Of a batchable step: run its worker once, for nothing.
    #[arg(long)]
    no_batches: bool,
}

impl Outcome {
    /// Every flag, for those that may be left out beside one of them.
    pub(crate) const FLAGS: [&str; 4] =
        ["create_step", "no_branches", "create_batch", "no_batches"];

    pub(crate) fn read(self) -> anyhow::Result<Option<Expansion>> {
        let Self { create_step, no_branches, create_batch, no_batches } = self;
        let said = if !create_step.is_empty() {
            Said::CreateSteps(CreateSteps { step_names: create_step })
        } else if no_branches {
            Said::NoBranches(NoBranches {})
        } else if !create_batch.is_empty() {
            let cursors = create_batch.into_iter().map(payload::Given::read);
            Said::CreateBatches(CreateBatches { cursors: cursors.collect::<Result<_, _>>()? })
        } else if no_batches {
            Said::NoBatches(NoBatches {})
        } else {
            return Ok(None);
        };
        Ok(Some(Expansion { outcome: Some(said) }))
    }
}
