//! `step`: the steps of a task, read and repaired.

use std::process::ExitCode;

use clap::Subcommand;
use tasker_client::{
    Client,
    v1::{Expanded, SavedCheckpoint, Step, expanded},
};

use crate::{explain, listed, names, operator::By, outcome::Outcome, payload, print, view};

/// What may be asked of steps.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the steps of a task, in dependency order.
    List {
        /// Id of the task.
        task: String,
    },
    /// Show one step, with its newest result.
    Get {
        /// Id of the task.
        task: String,
        /// Name of the step.
        name: String,
    },
    /// Say why a step does not run, and what would let it; or where it runs, or how it has ended.
    Explain {
        /// Id of the task.
        task: String,
        /// Name of the step.
        name: String,
    },
    /// Have a failed step run again, with all its attempts.
    Reset {
        /// Id of the task.
        task: String,
        /// Name of the step.
        name: String,
        #[command(flatten)]
        by: By,
    },
    /// Settle a step outside: its dependants run without its result.
    Resolve {
        /// Id of the task.
        task: String,
        /// Name of the step.
        name: String,
        #[command(flatten)]
        by: By,
    },
    /// Complete a step with a result of your own; a decision or batchable step, with what comes into being.
    Complete {
        /// Id of the task.
        task: String,
        /// Name of the step.
        name: String,
        /// Its result, as JSON; @FILE reads a file, - reads standard input. Beside what comes into being it
        /// may be left out: {}.
        #[arg(
            long,
            value_name = "JSON|@FILE|-",
            required_unless_present_any = Outcome::FLAGS
        )]
        result: Option<payload::Given>,
        #[command(flatten)]
        outcome: Outcome,
        #[command(flatten)]
        by: By,
    },
}

pub(crate) async fn run(command: Command, client: &Client, json: bool) -> anyhow::Result<ExitCode> {
    match command {
        Command::List { task } => {
            let steps = client.list_steps(&task);
            listed::show(json, steps, HEADER, row, view::Step::from).await?;
        }
        Command::Get { task, name } => {
            shown(client.get_step(&task, &name).await?, json)?;
        }
        Command::Reset { task, name, by } => {
            shown(client.reset_step(&task, &name, &by.into()).await?, json)?;
        }
        Command::Resolve { task, name, by } => {
            shown(client.resolve_step(&task, &name, &by.into()).await?, json)?;
        }
        Command::Complete { task, name, result, outcome, by } => {
            let result = result.unwrap_or_else(|| payload::Given::Text("{}".to_owned())).read()?;
            let by = by.into();
            let step = match outcome.read()? {
                Some(said) => client.complete_step_with(&task, &name, result, said, &by).await?,
                None => client.complete_step(&task, &name, result, &by).await?,
            };
            shown(step, json)?;
        }
        Command::Explain { task, name } => {
            let explanation = client.explain_step(&task, &name).await?;
            if json {
                print::json(&view::StepExplanation::from(explanation))?;
            } else {
                explain::step(&explanation)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) const HEADER: [&str; 6] =
    ["STEP", "STATE", "ATTEMPT", "HANDLER", "DEPENDENCIES", "FAILURE"];

pub(crate) fn row(step: &Step) -> [String; 6] {
    let error = step.result.as_ref().and_then(|result| result.error.as_ref());
    [
        step.name.clone(),
        names::step_state(step.state()),
        attempts(step),
        step.handler.clone(),
        step.dependencies.join(", "),
        error.map(|error| error.r#type.clone()).unwrap_or_default(),
    ]
}

fn shown(step: Step, json: bool) -> anyhow::Result<()> {
    if json { print::json(&view::Step::from(step)) } else { Ok(show(&step)?) }
}

fn attempts(step: &Step) -> String {
    format!("{}/{}", step.attempt, step.max_attempts)
}

fn show(step: &Step) -> std::io::Result<()> {
    let result = step.result.as_ref();
    let error = result.and_then(|result| result.error.as_ref());
    let failure = error.map(|error| {
        let again = if error.retryable { "" } else { " (not retryable)" };
        format!("{}: {}{again}", error.r#type, error.message)
    });
    print::fields([
        ("task", step.task_id.clone()),
        ("step", step.name.clone()),
        ("state", names::step_state(step.state())),
        ("attempt", attempts(step)),
        ("handler", step.handler.clone()),
        ("dependencies", step.dependencies.join(", ")),
        ("retry at", names::time(step.retry_time.as_ref()).unwrap_or_default()),
        ("failure", failure.unwrap_or_default()),
        (
            "result",
            result.and_then(|it| it.payload.as_ref()).map(payload::text).unwrap_or_default(),
        ),
        ("expanded", step.expanded.as_ref().map(expanded).unwrap_or_default()),
        ("checkpoint", step.checkpoint.as_ref().map(checkpoint).unwrap_or_default()),
        ("result at", result.and_then(|it| names::time(it.time.as_ref())).unwrap_or_default()),
    ])
}

/// For example `pay, ship` or `12 batches`.
fn expanded(expanded: &Expanded) -> String {
    match &expanded.outcome {
        Some(expanded::Outcome::CreateSteps(chosen)) => chosen.step_names.join(", "),
        Some(expanded::Outcome::NoBranches(_)) => "no branches".to_owned(),
        Some(expanded::Outcome::BatchCount(1)) => "1 batch".to_owned(),
        Some(expanded::Outcome::BatchCount(count)) => format!("{count} batches"),
        Some(expanded::Outcome::NoBatches(_)) => "no batches".to_owned(),
        // Of a newer mesh.
        None => String::new(),
    }
}

/// For example `rows 120, in attempt 1, 64 bytes, at 2026-…`.
fn checkpoint(saved: &SavedCheckpoint) -> String {
    let mut counters: Vec<String> =
        saved.counters.iter().map(|(name, count)| format!("{name} {count}")).collect();
    counters.sort();
    counters.push(format!("in attempt {}", saved.attempt));
    counters.push(format!("{} bytes", saved.size_bytes));
    counters.extend(names::time(saved.save_time.as_ref()).map(|time| format!("at {time}")));
    counters.join(", ")
}

#[cfg(test)]
mod tests {
    use tasker_client::v1::{CreateSteps, NoBranches};

    use super::*;

    #[test]
    fn a_decision_shows_what_it_chose_and_a_plan_how_many_batches() {
        let of = |outcome| expanded(&Expanded { outcome: Some(outcome) });
        let step_names = vec!["pay".to_owned(), "ship".to_owned()];
        assert_eq!(of(expanded::Outcome::CreateSteps(CreateSteps { step_names })), "pay, ship");
        assert_eq!(of(expanded::Outcome::NoBranches(NoBranches {})), "no branches");
        assert_eq!(of(expanded::Outcome::BatchCount(12)), "12 batches");
    }

    #[test]
    fn a_checkpoint_shows_its_counters_in_their_order() {
        let counters = [("rows".to_owned(), 120), ("pages".to_owned(), 3)].into();
        let saved = SavedCheckpoint { counters, attempt: 1, size_bytes: 64, save_time: None };
        assert_eq!(checkpoint(&saved), "pages 3, rows 120, in attempt 1, 64 bytes");
    }
}
