//! Steps: read, list, explain.

use futures::Stream;
use tasker_api::v1::{
    ExplainStepRequest, ExplainTaskRequest, GetStepRequest, ListStepsRequest, Step,
    StepExplanation, step_service_client::StepServiceClient,
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

    /// Says why a step does not run; or where it runs, or how it has ended.
    ///
    /// # Errors
    /// `NotFound`: no such task or step.
    pub async fn explain_step(
        &self,
        task_id: &str,
        step_name: &str,
    ) -> Result<StepExplanation, Error> {
        let request = ExplainStepRequest { task_id: task_id.into(), step_name: step_name.into() };
        let rpc = |to, request| async move { steps(to).explain_step(request).await };
        let none = || Status::internal("the answer holds no explanation").into();
        self.call(request, rpc).await?.explanation.ok_or_else(none)
    }

    /// Says why each step of a task that is not done does not run, or where it runs, in dependency order.
    ///
    /// # Errors
    /// `NotFound`: no such task.
    pub async fn explain_task(&self, task_id: &str) -> Result<Vec<StepExplanation>, Error> {
        let request = ExplainTaskRequest { task_id: task_id.into() };
        let rpc = |to, request| async move { steps(to).explain_task(request).await };
        Ok(self.call(request, rpc).await?.explanations)
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
