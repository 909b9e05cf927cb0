//! Dead letters: tasks that somebody has to look into; and tasks that are stale.

use futures::Stream;
use tasker_api::v1::{
    CreateDlqEntryRequest, DlqEntry, DlqInvestigation, DlqReasonStats, GetDlqEntryRequest,
    GetDlqStatsRequest, GetInvestigationQueueRequest, GetTaskHealthRequest, ListDlqEntriesRequest,
    ListStaleTasksRequest, StaleTask, TaskHealthReading, UpdateDlqEntryRequest,
    dlq_service_client::DlqServiceClient,
};
use tonic::{Status, transport::Channel};
use uuid::Uuid;

use crate::{
    client::{Client, LARGEST_MESSAGE},
    error::Error,
    pages,
};

fn dlq(channel: Channel) -> DlqServiceClient<Channel> {
    DlqServiceClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE)
}

impl Client {
    /// Puts a task among the dead letters, and returns its entry. Without a `request_id` it makes one, so
    /// that its own repeats find the entry that the first has made.
    ///
    /// # Errors
    /// `NotFound`: no such task. `AlreadyExists`: it has a pending entry; the failure's metadata names the
    /// `entry_id`.
    pub async fn create_dlq_entry(
        &self,
        mut request: CreateDlqEntryRequest,
    ) -> Result<DlqEntry, Error> {
        if request.request_id.is_empty() {
            request.request_id = Uuid::now_v7().to_string();
        }
        let rpc = |to, request| async move { dlq(to).create_dlq_entry(request).await };
        self.call(request, rpc).await?.entry.ok_or_else(no_entry)
    }

    /// Returns one entry, with how its task stood when it was put there.
    ///
    /// # Errors
    /// `NotFound`: no such entry.
    pub async fn get_dlq_entry(&self, entry_id: &str) -> Result<DlqEntry, Error> {
        let request = GetDlqEntryRequest { entry_id: entry_id.into() };
        let rpc = |to, request| async move { dlq(to).get_dlq_entry(request).await };
        self.call(request, rpc).await?.entry.ok_or_else(no_entry)
    }

    /// Streams the entries that `filter` describes, newest first, page by page.
    pub fn list_dlq_entries(
        &self,
        filter: ListDlqEntriesRequest,
    ) -> impl Stream<Item = Result<DlqEntry, Error>> + Send + use<> {
        let client = self.clone();
        pages::items(move |page_token| {
            let (client, request) =
                (client.clone(), ListDlqEntriesRequest { page_token, ..filter.clone() });
            async move {
                let rpc = |to, request| async move { dlq(to).list_dlq_entries(request).await };
                let page = client.call(request, rpc).await?;
                Ok((page.entries, page.next_page_token))
            }
        })
    }

    /// Notes what was found out about an entry, and resolves it if a status is given. Returns it as it
    /// then is.
    ///
    /// # Errors
    /// `NotFound`: no such entry. `FailedPrecondition`: it was resolved with another status.
    pub async fn update_dlq_entry(
        &self,
        request: UpdateDlqEntryRequest,
    ) -> Result<DlqEntry, Error> {
        let rpc = |to, request| async move { dlq(to).update_dlq_entry(request).await };
        self.call(request, rpc).await?.entry.ok_or_else(no_entry)
    }

    /// Streams the pending entries, those first that are to be looked into first. An empty namespace does
    /// not narrow.
    pub fn investigation_queue(
        &self,
        namespace: &str,
    ) -> impl Stream<Item = Result<DlqInvestigation, Error>> + Send + use<> {
        let (client, namespace) = (self.clone(), namespace.to_owned());
        pages::items(move |page_token| {
            let (client, namespace) = (client.clone(), namespace.clone());
            let request = GetInvestigationQueueRequest { namespace, page_size: 1000, page_token };
            async move {
                let rpc =
                    |to, request| async move { dlq(to).get_investigation_queue(request).await };
                let page = client.call(request, rpc).await?;
                Ok((page.investigations, page.next_page_token))
            }
        })
    }

    /// Returns what there is of each reason. An empty namespace does not narrow.
    ///
    /// # Errors
    /// `InvalidArgument`: see [`Error::violations`].
    pub async fn dlq_stats(&self, namespace: &str) -> Result<Vec<DlqReasonStats>, Error> {
        let request = GetDlqStatsRequest { namespace: namespace.into() };
        let rpc = |to, request| async move { dlq(to).get_dlq_stats(request).await };
        Ok(self.call(request, rpc).await?.reasons)
    }

    /// Returns how a task stands towards the limits of its template, and since when.
    ///
    /// # Errors
    /// `NotFound`: no such task.
    pub async fn task_health(&self, task_id: &str) -> Result<TaskHealthReading, Error> {
        let request = GetTaskHealthRequest { task_id: task_id.into() };
        let rpc = |to, request| async move { dlq(to).get_task_health(request).await };
        self.call(request, rpc).await?.reading.ok_or_else(no_reading)
    }

    /// Streams the open tasks that are near a limit of their template, or beyond it.
    pub fn list_stale_tasks(
        &self,
        filter: ListStaleTasksRequest,
    ) -> impl Stream<Item = Result<StaleTask, Error>> + Send + use<> {
        let client = self.clone();
        pages::items(move |page_token| {
            let (client, request) =
                (client.clone(), ListStaleTasksRequest { page_token, ..filter.clone() });
            async move {
                let rpc = |to, request| async move { dlq(to).list_stale_tasks(request).await };
                let page = client.call(request, rpc).await?;
                Ok((page.tasks, page.next_page_token))
            }
        })
    }
}

fn no_reading() -> Error {
    Status::internal("the answer holds no reading").into()
}

fn no_entry() -> Error {
    Status::internal("the answer holds no entry").into()
}
