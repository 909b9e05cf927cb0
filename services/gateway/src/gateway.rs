//! Puts the gateway together.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::bail;
use tasker_runtime::{Context, Service, config::Mesh, mesh};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    Config,
    forward::{Channels, Forward},
    front,
    health_service::MeshHealth,
    routes::Routes,
};

/// The owner of what is served here.
const OWN: &str = "gateway";

/// The front door of the mesh.
#[derive(Debug)]
pub struct Gateway;

impl Gateway {
    /// Reads the table, and starts to connect to the services it leads to.
    ///
    /// It is ready without them: whoever calls one that is away is told so.
    ///
    /// # Errors
    ///
    /// If the contract names an owner that the gateway does not know where to find, or an endpoint
    /// is wrong.
    pub async fn build(config: Config, context: Context) -> anyhow::Result<Service> {
        let routes = Routes::read(tasker_api::DESCRIPTORS)?;
        let channels = channels(&config.mesh, &context.drain)?;
        for owner in routes.owners() {
            if owner != OWN && !channels.contains_key(owner) {
                bail!("the contract gives methods to {owner}, which `mesh` does not name");
            }
        }
        let Config { gateway, .. } = config;
        if !gateway.listen.ip().is_loopback() {
            warn!(listen = %gateway.listen, "Anyone who reaches {} may call", gateway.listen);
        }
        let health = MeshHealth::new(channels.clone());
        let forward =
            Forward::new(routes, channels, gateway.max_message_bytes, context.drain.clone());
        let routes = front::routes(health, forward, &gateway.origins());
        Ok(Service { listen: gateway.listen, routes })
    }
}

/// All services but the gateway, whether clients may call them or only ask how they are.
fn channels(
    mesh: &Mesh,
    drain: &CancellationToken,
) -> Result<Channels, tasker_runtime::config::Error> {
    let services = [
        ("task-request", &mesh.task_request),
        ("step-enqueuer", &mesh.step_enqueuer),
        ("result-processor", &mesh.result_processor),
        ("finalizer", &mesh.finalizer),
    ];
    let channels: Result<BTreeMap<_, _>, _> = services
        .into_iter()
        .map(|(name, endpoints)| Ok((name, mesh::channel(name, endpoints, drain)?)))
        .collect();
    Ok(Arc::new(channels?))
}
