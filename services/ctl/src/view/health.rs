//! How the services are.

use serde::Serialize;
use tasker_client::v1;

/// See `GetHealthResponse`.
#[derive(Serialize)]
pub(crate) struct Health {
    ready: bool,
    services: Vec<ServiceHealth>,
}

#[derive(Serialize)]
struct ServiceHealth {
    service: String,
    ready: bool,
    replicas: i32,
    reason: String,
    version: String,
}

impl From<v1::GetHealthResponse> for Health {
    fn from(health: v1::GetHealthResponse) -> Self {
        let service = |it: v1::ServiceHealth| {
            let v1::ServiceHealth { service, ready, replicas, reason, version } = it;
            ServiceHealth { service, ready, replicas, reason, version }
        };
        Self { ready: health.ready, services: health.services.into_iter().map(service).collect() }
    }
}
