//! Judges results, and unlocks the steps that waited for them.
//!
//! Owns a step from its result to its end, and every repair by hand.
//!
//! A ready message is sent in the transaction that meets the last dependency. So a ready step always
//! has a message; a message may outlive its step's right to run: step-enqueuer expects that.

mod announce;
mod complete_steps;
mod config;
mod event_service;
mod events;
mod expansions;
mod explain;
mod fail_steps;
mod judge;
mod limits;
mod listen;
mod patience;
mod queue;
mod repair_steps;
mod repairs;
mod result_service;
mod said;
mod settle_steps;
mod step_service;

pub use config::{Config, Section};

use tasker_api::{
    MAX_MESSAGE_BYTES,
    mesh::v1::result_processor_service_server::ResultProcessorServiceServer,
    v1::{event_service_server::EventServiceServer, step_service_server::StepServiceServer},
};
use tasker_runtime::{Context, Service};
use tasker_stack::{
    gather::Gather,
    sweep::{Sweep, Wake},
};
use tasker_stage::{Announcer, Database, Finalizer};
use tonic::service::Routes;

use crate::{
    announce::Outlets,
    complete_steps::CompleteSteps,
    event_service::Events,
    events::{announcer::EventAnnouncer, subscriptions::Subscriptions},
    fail_steps::FailSteps,
    patience::Patience,
    queue::QueuedResults,
    repair_steps::RepairSteps,
    repairs::Repairs,
    result_service::Results,
    settle_steps::SettleSteps,
    step_service::Steps,
};

/// The service.
#[derive(Debug)]
pub struct ResultProcessor;

impl ResultProcessor {
    /// Opens the database and starts the stage.
    ///
    /// # Errors
    /// The database cannot be reached or has another schema, or an endpoint is none.
    pub async fn build(config: Config, context: Context) -> anyhow::Result<Service> {
        let database = Database::open(&config.database, &context).await?;
        let announcer = Announcer::new(database.store.clone());
        let finalizer = Finalizer::at(&config.mesh, &context.drain)?;
        let outlets = Outlets {
            database: database.clone(),
            actor: context.instance.clone(),
            step_enqueuer: tasker_stage::step_enqueuer(&config.mesh, &context.drain)?,
            finalizer: finalizer.finalizations(),
            waiters: finalizer.waiters(announcer.clone()),
            announcer,
            events: EventAnnouncer::new(database.clone()),
        };
        let good = Gather::spawn(CompleteSteps { outlets: outlets.clone() }, config.bounds);
        let patience = Patience { store: database.store.clone(), random: rand::random };
        let verb = FailSteps { outlets: outlets.clone(), patience: patience.clone() };
        let bad = Gather::spawn(verb, config.bounds);
        let limits = config.section.limits();
        let repairs = RepairSteps { outlets: outlets.clone(), limits };
        let repairs = Gather::spawn(repairs, config.bounds);
        let any = Gather::spawn(SettleSteps { outlets, patience, limits }, config.bounds);

        let wake = Wake::default();
        let queued = QueuedResults {
            database: database.clone(),
            good: good.clone(),
            bad: bad.clone(),
            any: any.clone(),
            batch: config.bounds.batch,
        };
        let sweep = Sweep {
            queue: queue::QUEUE,
            wake: wake.clone(),
            every: config.mesh.read_interval(),
            after_error: std::time::Duration::from_secs(1),
        };
        let drain = context.drain.clone();
        context.spawn("reading results", async move { sweep.run(drain, || queued.read()).await });

        let subscriptions = Subscriptions::default();
        let listening =
            events::listen::run(database.clone(), subscriptions.clone(), context.drain.clone());
        context.spawn("listening to events", listening);
        context
            .spawn("listening", listen::run(database.clone(), wake.clone(), context.drain.clone()));
        let events = Events { subscriptions, drain: context.drain.clone() };

        let results = Results { good, bad, any, wake };
        let routes = Routes::new(
            ResultProcessorServiceServer::new(results)
                .max_decoding_message_size(4 * MAX_MESSAGE_BYTES),
        )
        .add_service(
            StepServiceServer::new(Steps {
                repairs: Repairs { database: database.clone(), steps: repairs },
                database,
            })
            .max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(EventServiceServer::new(events));
        Ok(Service { listen: config.section.listen, routes })
    }
}
