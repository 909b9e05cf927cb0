//! `grpc.health.v1`, following the readiness of the service, and saying its version beside each answer.

use tonic::{Request, Response, Status, async_trait, metadata::MetadataValue};
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest, HealthCheckResponse,
        health_server::{Health, HealthServer},
    },
    server::{HealthReporter, HealthService},
};

use crate::Context;

/// Of all services: they are built together.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where the answer to a health check says the version of who gave it.
pub const VERSION_KEY: &str = "tasker-version";

/// The health service, which knows `""` and the name of the service.
pub(super) async fn follow(context: &Context) -> HealthServer<impl Health> {
    let reporter = HealthReporter::new();
    let service = HealthService::from_health_reporter(reporter.clone());
    set(&reporter, context).await;
    context.spawn("the health report", report(reporter, context.clone()));
    HealthServer::new(Versioned(service))
}

/// Says the version with each answer.
struct Versioned<H>(H);

#[async_trait]
impl<H: Health> Health for Versioned<H> {
    type WatchStream = H::WatchStream;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(versioned(self.0.check(request).await?))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Ok(versioned(self.0.watch(request).await?))
    }
}

fn versioned<T>(mut answer: Response<T>) -> Response<T> {
    answer.metadata_mut().insert(VERSION_KEY, MetadataValue::from_static(VERSION));
    answer
}

async fn report(mut reporter: HealthReporter, context: Context) {
    let mut changes = context.readiness.watch();
    // Once more, for what changed before the watch began.
    set(&reporter, &context).await;
    while context.drain.run_until_cancelled(changes.changed()).await.is_some() {
        set(&reporter, &context).await;
    }
    set(&reporter, &context).await;
    // Ends the streams of its watchers, which the drain would otherwise wait for.
    for name in ["", context.service] {
        reporter.clear_service_status(name).await;
    }
}

async fn set(reporter: &HealthReporter, context: &Context) {
    let serving = context.readiness.is_ready() && !context.drain.is_cancelled();
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in ["", context.service] {
        reporter.set_service_status(name, status).await;
    }
}
