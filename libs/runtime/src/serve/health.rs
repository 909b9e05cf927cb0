//! `grpc.health.v1`, following the readiness of the service.

use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::{HealthReporter, health_reporter},
};

use crate::Context;

/// The health service, which knows `""` and the name of the service.
pub(super) async fn follow(context: &Context) -> HealthServer<impl Health> {
    let (reporter, server) = health_reporter();
    set(&reporter, context).await;
    context.spawn("the health report", report(reporter, context.clone()));
    server
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
