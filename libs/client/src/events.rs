//! Domain events, as steps publish them.

use futures::{Stream, TryStreamExt as _};
use tasker_api::v1::{
    SubscribeEventsRequest, SubscribeEventsResponse, event_service_client::EventServiceClient,
};

use crate::{
    call::traced,
    client::{Client, LARGEST_MESSAGE},
    error::Error,
};

impl Client {
    /// Listens to fast domain events whose names fit `pattern`, such as `orders.*`, of a namespace; of
    /// all if either is empty. Returns when the mesh listens: what is published from then on is told.
    ///
    /// Best effort: the stream says where events were missed, and ends with an error when the connection
    /// is lost. Who must not miss any reads the queue `<namespace>_domain_events`.
    ///
    /// # Errors
    /// `InvalidArgument`: the pattern is none. `ResourceExhausted`: too many listen. `Unavailable`: no
    /// connection. It is not tried again: the caller knows what it has missed.
    pub async fn subscribe_events(
        &self,
        namespace: &str,
        pattern: &str,
    ) -> Result<impl Stream<Item = Result<SubscribeEventsResponse, Error>> + Send + use<>, Error>
    {
        let request =
            SubscribeEventsRequest { namespace: namespace.into(), pattern: pattern.into() };
        let mut events =
            EventServiceClient::new(self.channel()).max_decoding_message_size(LARGEST_MESSAGE);
        let told = events.subscribe_events(traced(request)).await?.into_inner();
        Ok(told.map_err(Error::from))
    }
}
