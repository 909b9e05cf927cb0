//! Before anything is submitted: a mesh that is ready, and knows the templates.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tasker_client::{Client, v1::ServiceHealth};
use tokio::time::{Instant, sleep};

/// For services that are just starting.
const PATIENCE: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Names of steps in dependency order, by namespace and name of their template.
pub(crate) type Steps = HashMap<(String, String), Vec<String>>;

/// Waits until every service of the mesh can do its work.
pub(crate) async fn wait_until_ready(client: &Client, gateway: &str) -> anyhow::Result<()> {
    println!("Asking the mesh at {gateway} for its health.");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let health =
            client.health().await.with_context(|| format!("no mesh answers at {gateway}"))?;
        if health.ready {
            let names: Vec<_> = health.services.iter().map(|it| it.service.as_str()).collect();
            println!("Ready: {}.", names.join(", "));
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("the mesh at {gateway} is not ready: {}", missing(&health.services));
        }
        // Health is a question, not a stream: there is no event to wait for.
        sleep(ASK_AGAIN).await;
    }
}

fn missing(services: &[ServiceHealth]) -> String {
    let missing = services.iter().filter(|service| !service.ready);
    missing.map(|it| format!("{} ({})", it.service, it.reason)).collect::<Vec<_>>().join(", ")
}

/// Registers every template of a folder. Those that are registered already stay as they are.
pub(crate) async fn register_templates(client: &Client, folder: &Path) -> anyhow::Result<Steps> {
    let mut steps = Steps::new();
    let mut names = Vec::new();
    for file in yaml_files(folder).with_context(|| format!("{}", folder.display()))? {
        let yaml = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        let template = client.register_template(yaml).await;
        let template = template.with_context(|| format!("{} is refused", file.display()))?;
        let of = template.r#ref.unwrap_or_default();
        names.push(format!("{}/{} {}", of.namespace, of.name, of.version));
        let order = template.steps.into_iter().map(|step| step.name).collect();
        steps.insert((of.namespace, of.name), order);
    }
    println!("Templates: {}.\n", names.join(", "));
    Ok(steps)
}

fn yaml_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|it| it == "yaml" || it == "yml"));
    files.sort();
    Ok(files)
}
