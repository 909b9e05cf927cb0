//! `task`: submit, read and follow, end and repair.

use std::{process::ExitCode, time::Duration};

use clap::Subcommand;
use futures::TryStreamExt as _;
use tasker_client::{
    Client, has_settled,
    v1::{
        CreateTaskRequest, CreateTaskResponse, LifecycleLimit, Step, Task, TaskState, TemplateRef,
    },
};

use crate::{
    exit, explain, names, operator::By, payload, print, step, task::list::Filter, template_ref,
    view,
};

mod history;
mod list;
mod repair;
mod watch;

/// What may be asked of tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Submit a task, and print its id.
    Create(NewTask),
    /// Show one task with its context.
    Get {
        /// Id of the task.
        id: String,
        /// Its steps, too.
        #[arg(long)]
        steps: bool,
    },
    /// List tasks, newest first.
    List(Filter),
    /// Wait until a task ends or is blocked by failures, and show it.
    Wait {
        /// Id of the task.
        id: String,
        /// How long at most, as in 500ms, 30s, 5m.
        #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Say how a task stands towards the limits of its template, and since when.
    Health {
        /// Id of the task.
        id: String,
    },
    /// Show what has happened to a task, then what happens, until it has ended.
    Watch {
        /// Id of the task.
        id: String,
        /// Only what happened after this event; `--json` shows the cursor of each.
        #[arg(long, default_value = "", hide_default_value = true)]
        cursor: String,
    },
    /// Show what has happened to a task and its steps, oldest first.
    History {
        /// Id of the task.
        id: String,
        /// Only what happened to this step.
        #[arg(long, default_value = "", hide_default_value = true)]
        step: String,
    },
    /// Have no further step of a task begin; what runs goes on.
    Pause {
        /// Id of the task.
        id: String,
        #[command(flatten)]
        by: By,
    },
    /// Let a paused task go on.
    Resume {
        /// Id of the task.
        id: String,
        #[command(flatten)]
        by: By,
    },
    /// Say of each step that is not done why it does not run, or where it runs.
    Explain {
        /// Id of the task.
        id: String,
    },
    /// End a task, and cancel what is open of it.
    Cancel {
        /// Id of the task.
        id: String,
        #[command(flatten)]
        by: By,
    },
    /// End a task that is blocked by failures as settled outside.
    Resolve {
        /// Id of the task.
        id: String,
        #[command(flatten)]
        by: By,
    },
    /// End a task that is blocked by failures as failed.
    GiveUp {
        /// Id of the task.
        id: String,
        #[command(flatten)]
        by: By,
    },
    /// Reset or resolve all failed steps of a task.
    Repair {
        /// Id of the task.
        id: String,
        /// What to do about its failed steps.
        remedy: repair::Remedy,
        #[command(flatten)]
        by: By,
    },
    /// Reset or resolve all failed steps of many tasks. `--json`: one object a line.
    RepairAll(repair::Many),
    /// Run a task again from a step on, as a new task, and print its id.
    Rerun {
        /// Id of the task.
        id: String,
        /// The step to begin with; what follows from it runs again, too.
        #[arg(long, value_name = "STEP")]
        from: String,
        /// What its steps work on, as JSON; @FILE reads a file, - reads standard input. Default: as before.
        #[arg(long, value_name = "JSON|@FILE|-")]
        context: Option<payload::Given>,
        #[command(flatten)]
        by: By,
    },
}

/// What to submit.
#[derive(Debug, clap::Args)]
pub(crate) struct NewTask {
    /// What it is made from; the newest version if none is named.
    #[arg(value_name = "NAMESPACE/NAME[@VERSION]", value_parser = template_ref::parse)]
    template: TemplateRef,
    /// What its steps work on, as JSON; @FILE reads a file, - reads standard input. Default: {}.
    #[arg(long, value_name = "JSON|@FILE|-")]
    context: Option<payload::Given>,
    /// Names this submission: the same id again gives the first answer.
    #[arg(long, default_value = "", hide_default_value = true)]
    request_id: String,
    /// For templates whose identity strategy is caller_provided.
    #[arg(long, default_value = "", hide_default_value = true)]
    idempotency_key: String,
    /// To find the task by.
    #[arg(long, default_value = "", hide_default_value = true)]
    correlation_id: String,
    /// Who asks for it.
    #[arg(long, default_value = "", hide_default_value = true)]
    requested_by: String,
    /// Why.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// From -100 to 100; larger goes first.
    #[arg(
        long,
        default_value_t = 0,
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(-100..=100)
    )]
    priority: i32,
}

pub(crate) async fn run(command: Command, client: &Client, json: bool) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create(task) => create(client, task, json).await?,
        Command::Get { id, steps } => get(client, &id, steps, json).await?,
        Command::List(filter) => list::run(filter, client, json).await?,
        Command::Wait { id, timeout } => return wait(client, &id, timeout, json).await,
        Command::Health { id } => health(client, &id, json).await?,
        Command::History { id, step } => history::run(client, &id, &step, json).await?,
        Command::Watch { id, cursor } => watch::run(client, &id, &cursor, json).await?,
        Command::Pause { id, by } => {
            shown(client.pause_task(&id, &by.into()).await?, json)?;
        }
        Command::Resume { id, by } => {
            shown(client.resume_task(&id, &by.into()).await?, json)?;
        }
        Command::Explain { id } => {
            let explained = client.explain_task(&id).await?;
            if json {
                let views = explained.into_iter().map(view::StepExplanation::from);
                print::json(&views.collect::<Vec<_>>())?;
            } else {
                print::table(explain::HEADER, explained.iter().map(explain::row))?;
            }
        }
        Command::Cancel { id, by } => ended(client.cancel_task(&id, &by.into()).await?, json)?,
        Command::Resolve { id, by } => ended(client.resolve_task(&id, &by.into()).await?, json)?,
        Command::GiveUp { id, by } => ended(client.give_up_task(&id, &by.into()).await?, json)?,
        Command::Repair { id, remedy, by } => repair::one(client, &id, remedy, by, json).await?,
        Command::RepairAll(many) => repair::many(client, many, json).await?,
        Command::Rerun { id, from, context, by } => {
            let context = context.map(payload::Given::read).transpose()?;
            let rerun = client.rerun_task(&id, &from, context, &by.into()).await?;
            let created = CreateTaskResponse { task_id: rerun.task_id, template: rerun.template };
            submitted(created, json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(task: Task, json: bool) -> anyhow::Result<()> {
    if json { print::json(&view::Task::from(task)) } else { Ok(show(&task)?) }
}

async fn create(client: &Client, task: NewTask, json: bool) -> anyhow::Result<()> {
    let request = CreateTaskRequest {
        template: Some(task.template),
        context: task.context.map(payload::Given::read).transpose()?,
        request_id: task.request_id,
        idempotency_key: task.idempotency_key,
        correlation_id: task.correlation_id,
        requested_by: task.requested_by,
        reason: task.reason,
        priority: task.priority,
    };
    submitted(client.create_task(request).await?, json)
}

fn submitted(created: CreateTaskResponse, json: bool) -> anyhow::Result<()> {
    if json {
        print::json(&view::Created::from(created))
    } else {
        // Alone, for `id=$(tasker-ctl task create …)`.
        Ok(print::line(&created.task_id)?)
    }
}

fn ended(task: Task, json: bool) -> anyhow::Result<()> {
    if json { print::json(&view::Task::from(task)) } else { Ok(show(&task)?) }
}

async fn get(client: &Client, id: &str, with_steps: bool, json: bool) -> anyhow::Result<()> {
    let task = client.get_task(id).await?;
    let steps = if with_steps {
        Some(client.list_steps(&task.task_id).try_collect::<Vec<Step>>().await?)
    } else {
        None
    };
    if json {
        return print::json(&view::Task::from(task).with_steps(steps));
    }
    show(&task)?;
    if let Some(steps) = steps {
        print::line("")?;
        print::table(step::HEADER, steps.iter().map(step::row))?;
    }
    Ok(())
}

async fn health(client: &Client, id: &str, json: bool) -> anyhow::Result<()> {
    let reading = client.task_health(id).await?;
    if json {
        return print::json(&view::TaskHealthReading::from(reading));
    }
    let limited = reading.limit() != LifecycleLimit::Unspecified;
    Ok(print::fields([
        ("task", reading.task_id.clone()),
        ("state", names::task_state(reading.state())),
        ("health", names::health(reading.health())),
        ("since", names::time(reading.since_time.as_ref()).unwrap_or_default()),
        ("limit", if limited { names::limit(reading.limit()) } else { String::new() }),
        ("lasted", names::duration(reading.lasted.as_ref()).unwrap_or_default()),
        ("allowed", names::duration(reading.allowed.as_ref()).unwrap_or_default()),
    ])?)
}

async fn wait(
    client: &Client,
    id: &str,
    timeout: Duration,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let task = client.wait_for_task(id, timeout).await?;
    let state = task.state();
    if json {
        print::json(&view::Task::from(task))?;
    } else {
        show(&task)?;
    }
    Ok(if !has_settled(state) {
        eprintln!(
            "after {}: still {}",
            humantime::format_duration(timeout),
            names::task_state(state)
        );
        ExitCode::from(exit::TIMED_OUT)
    } else if state == TaskState::Complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::NOT_COMPLETE)
    })
}

fn show(task: &Task) -> std::io::Result<()> {
    let steps = task.steps.unwrap_or_default();
    print::fields([
        ("task", task.task_id.clone()),
        ("template", names::template(task.template.as_ref())),
        ("state", names::task_state(task.state())),
        ("paused", if task.paused { "yes".to_owned() } else { String::new() }),
        ("purged", if task.purged { "yes".to_owned() } else { String::new() }),
        ("created", names::time(task.create_time.as_ref()).unwrap_or_default()),
        ("ended", names::time(task.end_time.as_ref()).unwrap_or_default()),
        ("steps", progress(&steps)),
        ("priority", task.priority.to_string()),
        ("correlation id", task.correlation_id.clone()),
        ("idempotency key", task.idempotency_key.clone()),
        ("requested by", task.requested_by.clone()),
        ("reason", task.reason.clone()),
        ("rerun of", task.rerun_of.clone()),
        ("reruns", task.reruns.join(", ")),
        ("trace", task.trace.as_ref().map(|it| it.traceparent.clone()).unwrap_or_default()),
        ("context", task.context.as_ref().map(payload::text).unwrap_or_default()),
    ])
}

/// For example `3 of 5 done, 1 failed`.
fn progress(steps: &tasker_client::v1::StepCounts) -> String {
    let mut text = format!("{} of {} done", steps.satisfied, steps.total);
    for (count, what) in [
        (steps.ready, "ready"),
        (steps.in_flight, "in flight"),
        (steps.waiting_for_retry, "waiting for retry"),
        (steps.failed, "failed"),
    ] {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_names_only_what_there_is() {
        let mut steps =
            tasker_client::v1::StepCounts { total: 5, satisfied: 3, ..Default::default() };
        assert_eq!(progress(&steps), "3 of 5 done");
        steps.waiting_for_retry = 1;
        steps.failed = 1;
        assert_eq!(progress(&steps), "3 of 5 done, 1 waiting for retry, 1 failed");
    }
}
