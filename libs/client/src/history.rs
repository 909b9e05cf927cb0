//! What has happened to tasks and their steps.

use futures::Stream;
use tasker_api::v1::{ListTransitionsRequest, Transition};

use crate::{client::Client, error::Error, pages, tasks::tasks};

impl Client {
    /// Streams what has happened to a task and its steps, oldest first; to one step, if one is named.
    pub fn list_transitions(
        &self,
        task_id: &str,
        step_name: &str,
    ) -> impl Stream<Item = Result<Transition, Error>> + Send + use<> {
        let (task_id, step_name) = (task_id.to_owned(), step_name.to_owned());
        let client = self.clone();
        pages::items(move |page_token| {
            let client = client.clone();
            let (task_id, step_name) = (task_id.clone(), step_name.clone());
            let request =
                ListTransitionsRequest { task_id, step_name, page_size: 1000, page_token };
            async move {
                let rpc = |to, request| async move { tasks(to).list_transitions(request).await };
                let page = client.call(request, rpc).await?;
                Ok((page.transitions, page.next_page_token))
            }
        })
    }
}
