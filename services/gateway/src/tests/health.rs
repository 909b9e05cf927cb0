use tasker_api::v1::{GetHealthRequest, ServiceHealth, health_service_client::HealthServiceClient};
use tasker_api::v1::{WatchTaskRequest, WorkRequest};

use super::mesh::Mesh;

#[tokio::test]
async fn the_health_of_the_mesh_names_who_is_missing() {
    let mesh = Mesh::start().await;
    // Answered by both services, so that both are connected.
    mesh.tasks().await.watch_task(WatchTaskRequest::default()).await.unwrap();
    mesh.workers().await.work(futures::stream::empty::<WorkRequest>()).await.unwrap();

    let mut health = HealthServiceClient::with_origin(mesh.connect().await, mesh.origin());
    let answer = health.get_health(GetHealthRequest {}).await.unwrap().into_inner();
    assert!(!answer.ready);
    let found: Vec<_> = answer.services.iter().map(summary).collect();
    assert_eq!(
        found,
        [
            ("gateway", true, 1, ""),
            ("result-processor", false, 0, "no replica is connected"),
            ("step-enqueuer", true, 1, ""),
            ("task-request", true, 1, ""),
        ]
    );
}

fn summary(health: &ServiceHealth) -> (&str, bool, i32, &str) {
    (&health.service, health.ready, health.replicas, &health.reason)
}
