//! The five services, each with its own context, in one process.

use anyhow::Context as _;
use futures::future::join_all;
use tasker_finalizer::Finalizer;
use tasker_gateway::Gateway;
use tasker_result_processor::ResultProcessor;
use tasker_runtime::{
    Context, Service,
    config::{self, Drain, Source},
    serve,
};
use tasker_step_enqueuer::StepEnqueuer;
use tasker_task_request::TaskRequest;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::error;

use crate::listeners::Listeners;

/// All services, serving. Dropping it begins their drains, and waits for nothing.
#[derive(Debug)]
pub(crate) struct Mesh {
    gateway: Serving,
    stages: Vec<Serving>,
    /// Cancelled when one of them has ended, asked or not.
    ended: CancellationToken,
}

impl Mesh {
    /// Builds all, then serves all.
    pub(crate) async fn start(
        source: &Source,
        drain: &Drain,
        listeners: Listeners,
    ) -> anyhow::Result<Self> {
        let with = Builder { source, drain };
        let finalizer =
            with.build("finalizer", tasker_finalizer::Config::load, Finalizer::build).await?;
        let result_processor = with
            .build(
                "result-processor",
                tasker_result_processor::Config::load,
                ResultProcessor::build,
            )
            .await?;
        let step_enqueuer = with
            .build("step-enqueuer", tasker_step_enqueuer::Config::load, StepEnqueuer::build)
            .await?;
        let task_request = with
            .build("task-request", tasker_task_request::Config::load, TaskRequest::build)
            .await?;
        let gateway = with.build("gateway", tasker_gateway::Config::load, Gateway::build).await?;

        let ended = CancellationToken::new();
        let stages = vec![
            finalizer.serve(listeners.finalizer, &ended),
            result_processor.serve(listeners.result_processor, &ended),
            step_enqueuer.serve(listeners.step_enqueuer, &ended),
            task_request.serve(listeners.task_request, &ended),
        ];
        // Last: who comes in finds the others.
        Ok(Self { gateway: gateway.serve(listeners.gateway, &ended), stages, ended })
    }

    /// Returns when a service has ended: not before it is stopped, unless it failed.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Returns when every service can do its work.
    pub(crate) async fn ready(&self) {
        for service in self.services() {
            let mut changes = service.context.readiness.watch();
            while !service.context.readiness.is_ready() {
                changes.changed().await;
            }
        }
    }

    /// Why not every service can do its work.
    pub(crate) fn reasons(&self) -> String {
        let reasons = self.services().flat_map(|service| {
            let reasons = service.context.readiness.reasons().into_iter();
            reasons.map(|(what, why)| format!("{}: {what}: {why}", service.context.service))
        });
        reasons.collect::<Vec<_>>().join("; ")
    }

    /// Drains the gateway, so that nobody comes in any more, then all stages.
    ///
    /// The stages together: what one still has for another is in its queue.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let gateway = self.gateway.stop().await;
        // All of them before any has gone: each then knows why the others do.
        self.stages.iter().for_each(|stage| stage.context.drain.cancel());
        let stages = join_all(self.stages.into_iter().map(Serving::stop)).await;
        let mut failures = [gateway].into_iter().chain(stages).filter_map(Result::err);
        let first = failures.next();
        for other in failures {
            error!("{other:#}");
        }
        first.map_or(Ok(()), Err)
    }

    fn services(&self) -> impl Iterator<Item = &Serving> {
        self.stages.iter().chain([&self.gateway])
    }
}

/// What every service is built from.
struct Builder<'a> {
    source: &'a Source,
    drain: &'a Drain,
}

impl Builder<'_> {
    async fn build<C, F>(
        &self,
        name: &'static str,
        load: impl FnOnce(&Source) -> Result<C, config::Error>,
        build: impl FnOnce(C, Context) -> F,
    ) -> anyhow::Result<Built>
    where
        F: Future<Output = anyhow::Result<Service>>,
    {
        let context = Context::new(name, self.drain);
        let drain = context.drain.clone().drop_guard();
        let built = build(load(self.source)?, context.clone()).await;
        let service = built.with_context(|| format!("cannot start {name}"))?;
        Ok(Built { service, context, drain })
    }
}

/// A service that does not serve yet. Dropping it ends its background work.
struct Built {
    service: Service,
    context: Context,
    drain: DropGuard,
}

impl Built {
    fn serve(self, listener: TcpListener, ended: &CancellationToken) -> Serving {
        let Self { service, context, drain } = self;
        let ended = ended.clone().drop_guard();
        let serving = serve(service, listener, context.clone());
        let task = tokio::spawn(async move {
            let _ended = ended;
            serving.await
        });
        Serving { context, drain, task }
    }
}

/// A service that serves. Dropping it begins its drain.
#[derive(Debug)]
struct Serving {
    context: Context,
    drain: DropGuard,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Serving {
    async fn stop(self) -> anyhow::Result<()> {
        let Self { context, drain, task } = self;
        drop(drain);
        let name = context.service;
        let ended = task.await.with_context(|| format!("{name} panicked"))?;
        ended.with_context(|| format!("{name} failed"))
    }
}
