//! HealthService: how the mesh is, as the gateway sees it.

use std::time::Duration;

use futures::future::join_all;
use tasker_api::v1::{
    GetHealthRequest, GetHealthResponse, ServiceHealth, health_service_server::HealthService,
};
use tasker_runtime::{VERSION, VERSION_KEY, mesh::TracedBalance};
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::forward::Channels;

/// How long a service may think about how it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks every service of the mesh, all at once.
pub(crate) struct MeshHealth {
    channels: Channels,
}

impl MeshHealth {
    pub(crate) fn new(channels: Channels) -> Self {
        Self { channels }
    }
}

#[tonic::async_trait]
impl HealthService for MeshHealth {
    async fn get_health(
        &self,
        _: Request<GetHealthRequest>,
    ) -> Result<Response<GetHealthResponse>, Status> {
        let others = self.channels.iter().map(|(name, channel)| health_of(name, channel.clone()));
        let mut services = join_all(others).await;
        services.push(own_health());
        services.sort_by(|one, other| one.service.cmp(&other.service));
        let ready = services.iter().all(|service| service.ready);
        Ok(Response::new(GetHealthResponse { ready, services }))
    }
}

/// It is ready if it can say so: it needs nobody else for that.
fn own_health() -> ServiceHealth {
    ServiceHealth {
        service: "gateway".to_owned(),
        ready: true,
        replicas: 1,
        reason: String::new(),
        version: VERSION.to_owned(),
    }
}

async fn health_of(service: &str, channel: TracedBalance) -> ServiceHealth {
    let replicas = channel.connected();
    let (found, version) = match replicas {
        // It would only wait for one.
        0 => (Err("no replica is connected".to_owned()), String::new()),
        _ => check(channel).await,
    };
    ServiceHealth {
        service: service.to_owned(),
        ready: found.is_ok(),
        replicas: i32::try_from(replicas).unwrap_or(i32::MAX),
        reason: found.err().unwrap_or_default(),
        version,
    }
}

/// `Err` says why it is not ready. With the version of the replica that answered.
async fn check(channel: TracedBalance) -> (Result<(), String>, String) {
    let mut client = HealthClient::new(channel);
    let whole = HealthCheckRequest::default();
    let answer = timeout(PATIENCE, client.check(whole)).await;
    let version = match &answer {
        Ok(Ok(answer)) => answer.metadata().get(VERSION_KEY).and_then(|text| text.to_str().ok()),
        _ => None,
    };
    let version = version.unwrap_or_default().to_owned();
    let found = match answer {
        Ok(Ok(answer)) if answer.get_ref().status() == ServingStatus::Serving => Ok(()),
        Ok(Ok(_)) => Err("it says that it is not serving".to_owned()),
        // The channel's own words name addresses, which are nobody's business.
        Ok(Err(status)) if status.code() == Code::Unavailable => {
            Err("its connection was lost".to_owned())
        }
        Ok(Err(status)) => Err(format!("it cannot be asked: {}", status.code())),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    (found, version)
}
