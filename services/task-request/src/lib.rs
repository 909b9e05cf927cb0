//! A request becomes a task.
//!
//! Owns the birth of tasks, `pending → initializing → enqueuing_steps`, and the templates they are
//! made from. A task, its steps and the messages that its first steps are ready are born in one
//! commit: a task that a client was told of is never without them. First steps for which step-enqueuer
//! keeps places begin in that commit, and need no message.

mod backlog;
mod config;
mod create_tasks;
mod first_steps;
mod history;
mod listen;
mod pauses;
mod repeats;
mod requests;
mod reruns;
mod resolve;
mod task_service;
mod template_service;

pub use config::{Config, Section};

use tasker_api::{
    MAX_MESSAGE_BYTES,
    mesh::v1::{
        finalizer_service_client::FinalizerServiceClient,
        step_enqueuer_service_client::StepEnqueuerServiceClient,
    },
    v1::{task_service_server::TaskServiceServer, template_service_server::TemplateServiceServer},
};
use tasker_runtime::{Context, Service, mesh};
use tasker_stack::{gather::Gather, sweep::Wake};
use tasker_stage::{Announcer, Database, Finalizer};
use tonic::service::Routes;

use crate::{
    backlog::Backlog, create_tasks::CreateTasks, first_steps::FirstSteps, pauses::Pauses,
    repeats::Repeats, requests::Requests, reruns::Reruns, task_service::Tasks,
    template_service::Templates,
};

/// The service.
#[derive(Debug)]
pub struct TaskRequest;

impl TaskRequest {
    /// Opens the database and starts the stage.
    ///
    /// # Errors
    /// The database cannot be reached or has another schema, or an endpoint is none.
    pub async fn build(config: Config, context: Context) -> anyhow::Result<Service> {
        let database = Database::open(&config.database, &context).await?;
        let step_enqueuer = tasker_stage::step_enqueuer(&config.mesh, &context.drain)?;
        let announcer = Announcer::new(database.store.clone());
        let pauses = Pauses {
            database: database.clone(),
            step_enqueuer: step_enqueuer.clone(),
            announcer: announcer.clone(),
        };
        let first_steps =
            mesh::channel("step-enqueuer", &config.mesh.step_enqueuer, &context.drain)?;
        let first_steps = config.mesh.makes_calls().then(|| {
            StepEnqueuerServiceClient::new(first_steps).max_decoding_message_size(MAX_MESSAGE_BYTES)
        });
        let bounds = config.bounds;
        let may_wait = backlog::Bounds {
            steps: config.section.max_backlog,
            requests: bounds.batch.div_ceil(4),
        };
        let backlog = Backlog::new(database.clone(), may_wait);
        let verb = CreateTasks {
            database: database.clone(),
            backlog: backlog.clone(),
            actor: context.instance.clone(),
            step_enqueuer: step_enqueuer.clone(),
            first_steps: FirstSteps::new(first_steps),
            announcer,
            finalizer: Finalizer::at(&config.mesh, &context.drain)?.finalizations(),
        };
        let births = Gather::spawn(verb, bounds);
        let repeats = Repeats::new(database.clone(), bounds);
        let wake = Wake::default();
        let requests = Requests {
            database: database.clone(),
            births: births.clone(),
            repeats: repeats.clone(),
            wake: wake.clone(),
        };
        context.spawn("listening", listen::run(database.clone(), wake, context.drain.clone()));
        context.spawn(
            "reading requests",
            requests.run(config.mesh.read_interval(), context.drain.clone()),
        );

        let finalizer = mesh::channel("finalizer", &config.mesh.finalizer, &context.drain)?;
        let finalizer =
            FinalizerServiceClient::new(finalizer).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let reruns = Reruns { database: database.clone(), backlog: backlog.clone(), step_enqueuer };
        let tasks = Tasks {
            database: database.clone(),
            backlog,
            births,
            repeats,
            pauses: pauses.clone(),
            reruns,
            finalizer,
        };
        let templates = Templates { database, pauses, environment: config.section.environment };
        let routes =
            Routes::new(TaskServiceServer::new(tasks).max_decoding_message_size(MAX_MESSAGE_BYTES))
                .add_service(TemplateServiceServer::new(templates));
        Ok(Service { listen: config.section.listen, routes })
    }
}
