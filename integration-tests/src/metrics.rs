//! A receiver of metrics, beside that of spans: what a collector would be sent.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::MetricsService,
    },
    metrics::v1::{NumberDataPoint, metric::Data, number_data_point::Value},
};
use tonic::{Request, Response, Status};

use crate::spans::texts;

/// The last level of each gauge, by its name and the value of a label.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges(Arc<Mutex<Levels>>);

/// By name, label and value.
type Levels = BTreeMap<(String, String, String), i64>;

impl Gauges {
    /// What a gauge was at when it was told last. `None`: it has not been.
    pub(crate) fn level(&self, name: &str, label: &str, value: &str) -> Option<i64> {
        let key = (name.to_owned(), label.to_owned(), value.to_owned());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied()
    }

    fn note(&self, name: &str, point: NumberDataPoint) {
        let Some(Value::AsInt(level)) = point.value else { return };
        let mut gauges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (label, value) in texts(point.attributes) {
            gauges.insert((name.to_owned(), label, value), level);
        }
    }
}

#[tonic::async_trait]
impl MetricsService for Gauges {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let scopes =
            request.into_inner().resource_metrics.into_iter().flat_map(|of| of.scope_metrics);
        for metric in scopes.flat_map(|scope| scope.metrics) {
            if let Some(Data::Gauge(gauge)) = metric.data {
                for point in gauge.data_points {
                    self.note(&metric.name, point);
                }
            }
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
