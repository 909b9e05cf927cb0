//! Steps: read and list.

use futures::Stream;
use tasker_api::v1::{
    GetStepRequest, ListStepsRequest, Step, step_service_client::StepServiceClient,
};
use tonic::{Status, transport::Channel};

use crate::{
    client::{Client, LARGEST_MESSAGE},
    error::Error,
    pages,
};

pub(crate) fn steps(channel: Channel) -> StepServiceClient<Channel> {
    StepServiceClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE)
}

impl Client {
    /// Returns one step, with its newest result.
    ///
    /// # Errors
    /// `NotFound`: no such task or step.
    pub async fn get_step(&self, task_id: &str, step_name: &str) -> Result<Step, Error> {
        let request = GetStepRequest { task_id: task_id.into(), step_name: step_name.into() };
        let answer =
            self.call(request, |to, request| async move { steps(to).get_step(request).await });
        let none = || Status::internal("the answer holds no step").into();
        answer.await?.step.ok_or_else(none)
    }

    /// Streams the steps of a task in dependency order, without the payloads of their results.
    pub fn list_steps(
        &self,
        task_id: &str,
    ) -> impl Stream<Item = Result<Step, Error>> + Send + use<> {
        let (client, task_id) = (self.clone(), task_id.to_owned());
        pages::items(move |page_token| {
            let client = client.clone();
            let request =
                ListStepsRequest { task_id: task_id.clone(), page_size: 1000, page_token };
            async move {
                let rpc = |to, request| async move { steps(to).list_steps(request).await };
                let page = client.call(request, rpc).await?;
                Ok((page.steps, page.next_page_token))
            }
        })
    }
}
