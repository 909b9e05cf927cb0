//! `tasker.v1.EventService`: decodes, subscribes, encodes.

use futures::{StreamExt as _, stream, stream::BoxStream};
use tasker_api::{
    Invalid, field, status,
    v1::{SubscribeEventsRequest, SubscribeEventsResponse, event_service_server::EventService},
};
use tasker_domain::{ErrorKind, event_pattern::NotAPattern};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::events::subscriptions::{Subscription, Subscriptions, TooMany, Wanted};

/// The service's answers about events.
pub struct Events {
    pub subscriptions: Subscriptions,
    pub drain: CancellationToken,
}

#[tonic::async_trait]
impl EventService for Events {
    type SubscribeEventsStream = BoxStream<'static, Result<SubscribeEventsResponse, Status>>;

    async fn subscribe_events(
        &self,
        request: Request<SubscribeEventsRequest>,
    ) -> Result<Response<Self::SubscribeEventsStream>, Status> {
        let SubscribeEventsRequest { pattern, namespace } = request.into_inner();
        let mut invalid = Invalid::new();
        let namespace = invalid.take(field::text("namespace", namespace, 128));
        let pattern = match pattern.as_str() {
            "" => Some(None),
            text => invalid.take(
                text.parse()
                    .map(Some)
                    .map_err(|error: NotAPattern| Invalid::field("pattern", error.to_string())),
            ),
        };
        let (Some(namespace), Some(pattern)) = (namespace, pattern) else {
            return Err(invalid.into());
        };
        let subscribed = self.subscriptions.subscribe(Wanted { namespace, pattern });
        let subscription = match self.drain.run_until_cancelled(subscribed).await {
            Some(Ok(subscription)) => subscription,
            Some(Err(TooMany)) => {
                return Err(status(ErrorKind::Overloaded, "too many listen: try again later"));
            }
            None => return Err(ending()),
        };
        let told = stream::try_unfold((subscription, self.drain.clone()), next);
        Ok(Response::new(told.boxed()))
    }
}

async fn next(
    (mut subscription, drain): (Subscription, CancellationToken),
) -> Result<Option<(SubscribeEventsResponse, (Subscription, CancellationToken))>, Status> {
    match drain.run_until_cancelled(subscription.next()).await {
        Some(message) => {
            let said = SubscribeEventsResponse { message: Some(message) };
            Ok(Some((said, (subscription, drain))))
        }
        None => Err(ending()),
    }
}

fn ending() -> Status {
    status(ErrorKind::Unavailable, "the service is ending: connect again")
}
