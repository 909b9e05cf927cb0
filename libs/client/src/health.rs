//! How the mesh is.

use tasker_api::v1::{
    GetHealthRequest, GetHealthResponse, health_service_client::HealthServiceClient,
};

use crate::{client::Client, error::Error};

impl Client {
    /// Returns how the gateway and every service behind it are.
    ///
    /// # Errors
    /// Only if the gateway does not answer: a mesh that is not ready is an answer.
    pub async fn health(&self) -> Result<GetHealthResponse, Error> {
        let rpc =
            |to, request| async move { HealthServiceClient::new(to).get_health(request).await };
        self.call(GetHealthRequest {}, rpc).await
    }
}
