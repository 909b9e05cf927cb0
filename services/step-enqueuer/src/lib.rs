//! Ready steps go to workers under leases; results come back.
//!
//! Owns a step from the moment it is ready until its result: enqueue, start, release, the end of a
//! lease, and retry when due. It is the only one who reads worker queues, and reads as much as its
//! workers have credit for. A step's way to its worker does not wait for the disk: if a crash of the
//! database undoes it, the message that caused it is there again, and the delivery's result is refused.
//! What it takes in from workers does: results that it queues itself, and leases that have ended.

mod admit;
mod answers;
mod at_hand;
mod batches;
mod checkpoint;
mod claim;
mod config;
mod delays;
mod deliver;
mod enqueue_steps;
mod enqueuer_service;
mod first;
mod forward;
mod fronts;
mod hello;
mod leases;
mod listen;
mod liveness;
mod next;
mod poll;
mod report;
mod retries;
mod roster;
mod rounds;
mod save_checkpoints;
mod session;
mod stranded;
mod worker_service;
mod yield_steps;

pub use config::{Config, Section};

use std::time::Duration;

use tasker_api::{
    MAX_MESSAGE_BYTES,
    mesh::v1::{
        result_processor_service_client::ResultProcessorServiceClient,
        step_enqueuer_service_server::StepEnqueuerServiceServer,
    },
    v1::worker_service_server::WorkerServiceServer,
};
use tasker_domain::Ageing;
use tasker_runtime::{Context, Service, mesh};
use tasker_stack::{
    gather::{Bounds, Gather},
    sweep::{Sweep, Wake},
};
use tasker_stage::{Announcer, Database};
use tonic::service::Routes;

use crate::{
    claim::Claims,
    delays::Delays,
    deliver::Deliveries,
    enqueue_steps::EnqueueSteps,
    enqueuer_service::ReadySteps,
    forward::ForwardResults,
    leases::Leases,
    listen::Ear,
    liveness::Liveness,
    report::Reports,
    retries::Retries,
    roster::Roster,
    save_checkpoints::{Progresses, SaveCheckpoints},
    session::Sessions,
    stranded::Stranded,
    yield_steps::YieldSteps,
};

/// Results on their way to result-processor: in one call, waiting, and calls at once. All that have come
/// while its statement runs go into the next. With two calls, a result behind the second waited for one statement more.
const FORWARD: Bounds = Bounds { batch: 500, waiting: 5_000, lanes: 4 };
/// Checkpoints, and steps that are yielded. In one lane: what one worker has saved is kept in its order.
const SAVE: Bounds = Bounds { batch: 500, waiting: 100, lanes: 1 };

/// The service.
#[derive(Debug)]
pub struct StepEnqueuer;

impl StepEnqueuer {
    /// Opens the database and starts the stage.
    ///
    /// # Errors
    /// The database cannot be reached or has another schema, or an endpoint is none.
    pub async fn build(config: Config, context: Context) -> anyhow::Result<Service> {
        let database = Database::open(&config.database, &context).await?;
        let roster = Roster::new(Ageing(config.section.ageing));
        let drain = context.drain.clone();
        let announcer = Announcer::new(database.store.clone());
        let deliveries = Deliveries {
            database: database.clone(),
            roster: roster.clone(),
            actor: context.instance.clone(),
            announcer: announcer.clone(),
        };
        let steps = Gather::spawn(EnqueueSteps { deliveries: deliveries.clone() }, config.bounds);
        let wake = Wake::default();
        let sweep = Sweep {
            queue: enqueuer_service::QUEUE,
            wake: wake.clone(),
            every: config.mesh.read_interval(),
            after_error: Duration::from_secs(1),
        };
        let (store, swept, sweeping) = (database.store.clone(), steps.clone(), drain.clone());
        let batch = config.bounds.batch;
        context.spawn("reading ready steps", async move {
            sweep.run(sweeping, || enqueuer_service::read(&store, &swept, batch)).await;
        });
        let stranded = Stranded::exported(database.clone(), config.section.count_interval);
        if let Some(stranded) = stranded {
            context.spawn("counting steps without a worker", stranded.run(drain.clone()));
        }
        let every = config.mesh.read_interval();
        let claims = Claims { deliveries: deliveries.clone(), every };
        context.spawn("claiming", claims.run(drain.clone()));

        let retries = Retries {
            database: database.clone(),
            actor: context.instance.clone(),
            announcer: announcer.clone(),
            ready: steps.clone(),
            overflow: wake.clone(),
            wake: Wake::default(),
            every,
        };
        let (retry, ready) = (retries.wake.clone(), wake.clone());
        let delays = Delays { database: database.clone(), roster: roster.clone() };
        context.spawn("delays", delays.run(drain.clone()));
        let saving = Gather::spawn(SaveCheckpoints { database: database.clone() }, SAVE);
        let ear = Ear { database, announcer: announcer.clone(), roster, retries: retry, ready };
        context.spawn("retries", retries.run(drain.clone()));
        context.spawn("listening", ear.run(drain.clone()));

        let results = mesh::channel("result-processor", &config.mesh.result_processor, &drain)?;
        let results =
            ResultProcessorServiceClient::new(results).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let makes_calls = config.mesh.makes_calls();
        let liveness = Liveness { session_ttl: config.section.session_ttl };
        let leases = Leases {
            deliveries: deliveries.clone(),
            liveness,
            results: results.clone(),
            makes_calls,
        };
        context.spawn("deadlines", leases.clone().watch_deadlines(drain.clone()));
        context.spawn("sessions", leases.clone().watch_sessions(drain.clone()));

        let results = Gather::spawn(
            ForwardResults { deliveries: deliveries.clone(), results, makes_calls },
            FORWARD,
        );
        let yields = Gather::spawn(YieldSteps { deliveries: deliveries.clone() }, SAVE);
        let max_checkpoint_bytes = usize::try_from(config.section.max_checkpoint_bytes)?;
        let reports =
            Reports { deliveries: deliveries.clone(), results, yields, max_checkpoint_bytes };
        let progress = Progresses { saving, max_checkpoint_bytes };
        let ready = ReadySteps { steps, wake, deliveries: deliveries.clone() };
        let sessions = Sessions { deliveries, reports, progress, liveness, leases, drain };
        let routes = Routes::new(
            WorkerServiceServer::new(sessions).max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(
            StepEnqueuerServiceServer::new(ready).max_decoding_message_size(MAX_MESSAGE_BYTES),
        );
        Ok(Service { listen: config.section.listen, routes })
    }
}
