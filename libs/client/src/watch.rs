//! What happens to a task, as it happens, over any number of connections.

use futures::{Stream, stream};
use tasker_api::v1::{WatchTaskRequest, WatchTaskResponse};
use tokio::time::{Instant, sleep_until};
use tonic::Streaming;

use crate::{back_off::FullJitter, call::traced, client::Client, error::Error, tasks::tasks};

impl Client {
    /// Streams what has happened to a task, then what happens, until the task has ended.
    ///
    /// A lost connection is made again at the last cursor: nothing is missed, though starts of steps
    /// may be told twice. The stream ends with an error if the task is unknown, or if the mesh stays
    /// away for longer than the retry policy's deadline.
    pub fn watch_task(
        &self,
        task_id: &str,
    ) -> impl Stream<Item = Result<WatchTaskResponse, Error>> + Send + use<> {
        self.watch_task_from(task_id, "")
    }

    /// Like [`Client::watch_task`], from the `cursor` of an event that was received before.
    pub fn watch_task_from(
        &self,
        task_id: &str,
        cursor: &str,
    ) -> impl Stream<Item = Result<WatchTaskResponse, Error>> + Send + use<> {
        let watch = Watch {
            request: WatchTaskRequest { task_id: task_id.into(), cursor: cursor.into() },
            back_off: self.calls.back_off(),
            client: self.clone(),
            connection: None,
            lost_at: None,
        };
        stream::try_unfold(watch, |mut watch| async {
            Ok(watch.next().await?.map(|event| (event, watch)))
        })
    }
}

struct Watch {
    client: Client,
    /// Its cursor is that of the last event received.
    request: WatchTaskRequest,
    connection: Option<Connection>,
    back_off: FullJitter,
    /// Since when nothing has been heard; none while all is well.
    lost_at: Option<Instant>,
}

struct Connection {
    events: Streaming<WatchTaskResponse>,
    made_at: Instant,
}

impl Watch {
    async fn next(&mut self) -> Result<Option<WatchTaskResponse>, Error> {
        loop {
            match self.receive().await {
                Ok(None) => return Ok(None),
                Ok(Some(event)) => {
                    self.all_is_well();
                    self.request.cursor.clone_from(&event.cursor);
                    return Ok(Some(event));
                }
                Err(error) => self.lose(error).await?,
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<WatchTaskResponse>, Error> {
        if self.connection.is_none() {
            let request = traced(self.request.clone());
            let events = tasks(self.client.channel()).watch_task(request).await?.into_inner();
            self.connection = Some(Connection { events, made_at: Instant::now() });
        }
        let connection = self.connection.as_mut().expect("made above");
        Ok(connection.events.message().await?)
    }

    fn all_is_well(&mut self) {
        self.lost_at = None;
        self.back_off.reset();
    }

    /// Waits before the next connection, or passes the error on if that would not help.
    async fn lose(&mut self, error: Error) -> Result<(), Error> {
        let policy = &self.client.calls.policy;
        let stood =
            self.connection.take().is_some_and(|lost| lost.made_at.elapsed() > policy.longest_wait);
        let deadline_after = policy.deadline;
        if stood {
            // It was quiet, not broken: nothing happened to the task meanwhile.
            self.all_is_well();
        }
        let lost_at = *self.lost_at.get_or_insert_with(Instant::now);
        let again = self.client.calls.next_try(&error, &mut self.back_off);
        if !error.is_transient() || again >= lost_at + deadline_after {
            return Err(error);
        }
        sleep_until(again).await;
        Ok(())
    }
}
