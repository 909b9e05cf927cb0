//! How a task ends, waits or blocks.
//!
//! Owns a task once nothing in it moves any more and when it ends by hand or by rule, tells those who watch
//! tasks, and keeps those that somebody has to look into. Looks after tasks that their templates limit, and
//! after the database: it makes and drops the history's partitions, sends again what queues have lost, and
//! purges what is not to be kept.

mod config;
mod dlq_service;
mod end_tasks;
mod endings;
mod finalize_tasks;
mod finalizer_service;
mod limits;
mod listen;
mod maintain;
mod standings;
mod watch;
mod watches;

pub use config::{Config, Section};

use tasker_api::{
    MAX_MESSAGE_BYTES, mesh::v1::finalizer_service_server::FinalizerServiceServer,
    v1::dlq_service_server::DlqServiceServer,
};
use tasker_runtime::{Context, Service};
use tasker_stack::{
    gather::Gather,
    sweep::{Sweep, Wake},
};
use tasker_stage::{Announcer, Database};
use tonic::service::Routes;

use crate::{
    dlq_service::DeadLetters, end_tasks::EndTasks, endings::Endings, finalize_tasks::FinalizeTasks,
    finalizer_service::Finalizations, limits::Limits, maintain::Maintenance, standings::Standings,
    watch::Watcher, watches::Watches,
};

/// The service.
#[derive(Debug)]
pub struct Finalizer;

impl Finalizer {
    /// Opens the database and starts the stage.
    ///
    /// # Errors
    /// The database cannot be reached or has another schema.
    pub async fn build(config: Config, context: Context) -> anyhow::Result<Service> {
        let database = Database::open(&config.database, &context).await?;
        let watches = Watches::default();
        let announcer = Announcer::new(database.store.clone());
        let ends = EndTasks {
            database: database.clone(),
            watches: watches.clone(),
            announcer: announcer.clone(),
        };
        let ends = Gather::spawn(ends, config.bounds);
        let verb = FinalizeTasks {
            database: database.clone(),
            actor: context.instance.clone(),
            watches: watches.clone(),
            announcer,
        };
        let tasks = Gather::spawn(verb, config.bounds);
        let wake = Wake::default();
        let sweep = Sweep {
            queue: finalize_tasks::QUEUE,
            wake: wake.clone(),
            every: config.mesh.read_interval(),
            after_error: std::time::Duration::from_secs(1),
        };
        let (store, swept, drain) = (database.store.clone(), tasks.clone(), context.drain.clone());
        let batch = config.bounds.batch;
        context.spawn("reading finalizations", async move {
            sweep.run(drain, || finalize_tasks::read(&store, &swept, batch)).await;
        });
        context.spawn(
            "listening",
            listen::run(database.clone(), watches.clone(), context.drain.clone()),
        );
        let maintenance = Maintenance {
            database: database.clone(),
            reconcile_interval: config.section.reconcile_interval,
            keep_history_days: config.section.keep_history_days.into(),
            keep_results_days: config.section.keep_results_days.into(),
            keep_events_days: config.section.keep_events_days.into(),
            actor: context.instance.clone(),
            repaired: wake.clone(),
        };
        context.spawn("maintenance", maintenance.run(context.drain.clone()));
        let standings = Standings { database: database.clone() };
        let limits = Limits {
            standings: standings.clone(),
            ends: ends.clone(),
            actor: context.instance.clone(),
            every: config.section.limits_interval,
        };
        context.spawn("limits", limits.run(context.drain.clone()));

        let watcher = Watcher { database, watches, drain: context.drain.clone() };
        let endings = Endings { tasks: ends, watcher: watcher.clone() };
        let service = Finalizations { tasks, wake, watcher, endings };
        Ok(Service {
            listen: config.section.listen,
            routes: Routes::new(
                FinalizerServiceServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES),
            )
            .add_service(DlqServiceServer::new(DeadLetters { standings })),
        })
    }
}
