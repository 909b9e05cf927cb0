//! `step`: the steps of a task.

use std::process::ExitCode;

use clap::Subcommand;
use tasker_client::{Client, v1::Step};

use crate::{listed, names, payload, print, view};

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
}

pub(crate) async fn run(command: Command, client: &Client, json: bool) -> anyhow::Result<ExitCode> {
    match command {
        Command::List { task } => {
            let steps = client.list_steps(&task);
            listed::show(json, steps, HEADER, row, view::Step::from).await?;
        }
        Command::Get { task, name } => {
            let step = client.get_step(&task, &name).await?;
            if json { print::json(&view::Step::from(step))? } else { show(&step)? }
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
        ("result at", result.and_then(|it| names::time(it.time.as_ref())).unwrap_or_default()),
    ])
}
