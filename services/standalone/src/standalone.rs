//! Starts the whole mesh, and stops it.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tasker_client::Client;
use tasker_runtime::config::Source;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{Config, announce, database::Database, listeners::Listeners, mesh::Mesh, templates};

/// How long all services may take to be ready, once they are built.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the gateway is asked whether it is connected to all others.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// The whole mesh in one process.
#[derive(Debug)]
pub struct Standalone;

impl Standalone {
    /// Starts all, and returns when all is ready. Sets up no telemetry: that is the caller's.
    ///
    /// # Errors
    ///
    /// If anything does not start: what did is stopped before this returns. A
    /// [`config::Error`](tasker_runtime::config::Error) if the configuration is wrong, found before
    /// anything is opened.
    pub async fn start(source: Source) -> anyhow::Result<Running> {
        let running = Self::start_unless(source, &CancellationToken::new()).await?;
        running.ok_or_else(|| anyhow!("stopped while it started"))
    }

    /// As [`start`](Self::start); nothing is left running if `stop` is cancelled first.
    pub(crate) async fn start_unless(
        mut source: Source,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<Running>> {
        let config = Config::load(&source)?;
        let listeners = Listeners::bind(&source, config.gateway.listen).await?;
        listeners.tell(&mut source)?;
        // Waited for whatever comes: half a start is harder to end than a whole one.
        let database = Database::open(&config).await?;
        source.set("database.url", database.url())?;
        let started = stop.run_until_cancelled(start(&source, &config, &database, listeners)).await;
        match started {
            Some(Ok((mesh, gateway_url))) => Ok(Some(Running { mesh, database, gateway_url })),
            Some(Err(error)) => {
                stop_after(&error, database).await;
                Err(error)
            }
            None => database.stop().await.map(|()| None),
        }
    }
}

async fn start(
    source: &Source,
    config: &Config,
    database: &Database,
    listeners: Listeners,
) -> anyhow::Result<(Mesh, String)> {
    database.migrate().await?;
    let gateway_url = listeners.gateway_url()?;
    let mesh = Mesh::start(source, &config.drain, listeners).await?;
    let prepared = tokio::select! {
        biased;
        () = mesh.ended() => Err(anyhow!("a service ended while the mesh started")),
        prepared = prepare(config, &mesh, &gateway_url) => prepared,
    };
    match prepared {
        Ok(()) => Ok((mesh, gateway_url)),
        // What a service ended with says more.
        Err(error) => Err(mesh.stop().await.err().unwrap_or(error)),
    }
}

/// Waits until all is ready, registers the templates, and says where the gateway is.
async fn prepare(config: &Config, mesh: &Mesh, gateway_url: &str) -> anyhow::Result<()> {
    let client = Client::connect_lazy(gateway_url)?;
    match timeout(PATIENCE, ready(mesh, &client)).await {
        Ok(ready) => ready?,
        Err(_) => bail!("not ready after {} s: {}", PATIENCE.as_secs(), mesh.reasons()),
    }
    if let Some(folder) = &config.standalone.templates {
        templates::register(&client, folder).await?;
    }
    if let Some(file) = &config.standalone.ready_file {
        let written = announce::write(file.clone(), gateway_url.to_owned()).await;
        written.with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

async fn ready(mesh: &Mesh, client: &Client) -> anyhow::Result<()> {
    mesh.ready().await;
    // Each can do its work; the gateway may still be connecting. Health is a question, not a
    // stream: there is no event to wait for.
    while !client.health().await?.ready {
        sleep(ASK_AGAIN).await;
    }
    Ok(())
}

/// Stops the database after something else failed, which is what the caller is told.
async fn stop_after(error: &anyhow::Error, database: Database) {
    if let Err(also) = database.stop().await {
        tracing::error!("after {error:#}: {also:#}");
    }
}

/// The whole mesh, ready. Dropping it cuts it off; [`stop`](Self::stop) drains it.
#[derive(Debug)]
pub struct Running {
    // Dropped in this order.
    mesh: Mesh,
    database: Database,
    gateway_url: String,
}

impl Running {
    /// Where clients and workers find the gateway, as `http://127.0.0.1:7700`.
    #[must_use]
    pub fn gateway_url(&self) -> &str {
        &self.gateway_url
    }

    /// Where the database is: a secret.
    #[must_use]
    pub fn database_url(&self) -> String {
        self.database.url()
    }

    /// Returns when a service has failed; [`stop`](Self::stop) then says why.
    pub async fn failed(&self) {
        self.mesh.ended().await;
    }

    /// Drains the gateway, then the stages, then stops the database if it is ours.
    ///
    /// # Errors
    ///
    /// If a service had failed, or the database does not stop.
    pub async fn stop(self) -> anyhow::Result<()> {
        let drained = self.mesh.stop().await;
        let stopped = self.database.stop().await;
        drained.and(stopped)
    }
}
