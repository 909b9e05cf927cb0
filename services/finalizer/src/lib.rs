//! How a task ends, waits or blocks.
//!
//! Owns a task once nothing in it moves any more and when it ends by hand or by rule, tells those who watch tasks, and looks after the
//! database: it makes and drops the history's partitions and sends again what queues have lost.

mod config;
mod end_tasks;
mod endings;
mod finalize_tasks;
mod finalizer_service;
mod listen;
mod maintain;
mod watch;
mod watches;

pub use config::{Config, Section};

use tasker_api::mesh::v1::finalizer_service_server::FinalizerServiceServer;
use tasker_runtime::{Context, Service};
use tasker_stack::{
    gather::Gather,
    sweep::{Sweep, Wake},
};
use tasker_stage::{Announcer, Database};
use tonic::service::Routes;

use crate::{
    end_tasks::EndTasks, endings::Endings, finalize_tasks::FinalizeTasks,
    finalizer_service::Finalizations, maintain::Maintenance, watch::Watcher, watches::Watches,
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
            repaired: wake.clone(),
        };
        context.spawn("maintenance", maintenance.run(context.drain.clone()));

        let watcher = Watcher { database, watches, drain: context.drain.clone() };
        let endings = Endings { tasks: ends, watcher: watcher.clone() };
        let service = Finalizations { tasks, wake, watcher, endings };
        Ok(Service {
            listen: config.section.listen,
            routes: Routes::new(
                FinalizerServiceServer::new(service)
                    .max_decoding_message_size(tasker_api::MAX_MESSAGE_BYTES),
            ),
        })
    }
}
