//! `health`: how the mesh is.

use std::process::ExitCode;

use tasker_client::Client;

use crate::{print, view};

pub(crate) async fn run(client: &Client, json: bool) -> anyhow::Result<ExitCode> {
    let health = client.health().await?;
    let code = if health.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if json {
        print::json(&view::Health::from(health))?;
    } else {
        let rows = health.services.into_iter().map(|it| {
            let ready = if it.ready { "yes" } else { "no" };
            [it.service, ready.to_owned(), it.replicas.to_string(), it.version, it.reason]
        });
        print::table(["SERVICE", "READY", "REPLICAS", "VERSION", "REASON"], rows)?;
    }
    Ok(code)
}
