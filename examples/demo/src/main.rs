//! The demo: registers the example templates, submits real input, shows the steps moving, and says
//! whether every outcome is the expected one.

mod cases;
mod follow;
mod mesh;
mod report;
mod view;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use futures::{StreamExt as _, stream};
use tasker_client::Client;
use tokio::sync::mpsc;

/// Shows the mesh at work.
///
/// Ends with 0 if every task came out as expected: a declined card is expected to block its task.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Address of the gateway.
    #[arg(long, env = "TASKER_GATEWAY", default_value = "http://127.0.0.1:7700")]
    gateway: String,
    /// Orders to submit, one JSON object a line: `order`, and what to `expect` of it.
    #[arg(long, default_value = "examples/data/orders.jsonl")]
    orders: PathBuf,
    /// Folder of templates to register.
    #[arg(long, default_value = "examples/templates")]
    templates: PathBuf,
    /// How long a task may take.
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Tasks on their way at once.
const SIDE_BY_SIDE: usize = 32;
/// News for the view; a follower waits when the view is behind.
const NEWS: usize = 256;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut cases = cases::orders(&arguments.orders)?;
    cases.extend(cases::arithmetic());
    cases.extend(cases::refunds());

    let client = Client::connect_lazy(&arguments.gateway)?;
    mesh::wait_until_ready(&client, &arguments.gateway).await?;
    let steps = mesh::register_templates(&client, &arguments.templates).await?;

    let (tell, news) = mpsc::channel(NEWS);
    let showing = tokio::spawn(view::show(view::rows(&cases, &steps), news));
    let outcomes = stream::iter(cases.iter().enumerate())
        .map(|(number, case)| {
            follow::follow(
                &client,
                case,
                arguments.timeout,
                follow::News::new(number, tell.clone()),
            )
        })
        .buffered(SIDE_BY_SIDE)
        .collect::<Vec<_>>()
        .await;
    drop(tell);
    showing.await??;

    report::print(&cases, &outcomes)?;
    let all = cases.iter().zip(&outcomes).all(|(case, outcome)| report::is_good(case, outcome));
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
