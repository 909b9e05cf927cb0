//! What stands on the gateway's port, and what every request goes through before it.

use axum::{
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tasker_api::v1::health_service_server::HealthServiceServer;
use tonic::{body::Body, service::Routes};
use tonic_web::GrpcWebLayer;
use tower::util::option_layer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::{forward::Forward, health_service::MeshHealth, metadata};

/// What a browser lets a page read of an answer, beside the body.
const EXPOSED: [HeaderName; 3] = [
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
];

/// The gateway's own services, and everything else forwarded.
pub(crate) fn routes(health: MeshHealth, forward: Forward, cors_origins: &[HeaderValue]) -> Routes {
    let router = Routes::new(HealthServiceServer::new(health))
        .into_axum_router()
        .fallback(|request: Request| forward.call(request.map(Body::new)))
        // Innermost, so that the routes know nothing of browsers.
        .layer(GrpcWebLayer::new())
        .layer(middleware::from_fn(only_grpc))
        // Outermost: a preflight is not gRPC.
        .layer(option_layer(cors(cors_origins)));
    router.into()
}

/// Turns away what no gRPC service could read, in the words of HTTP: its sender speaks no gRPC.
async fn only_grpc(request: Request, next: Next) -> Response {
    if !metadata::is_grpc(request.headers()) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    if request.method() != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")]).into_response();
    }
    next.run(request).await
}

/// Nothing without origins: then no page of another site may call.
fn cors(origins: &[HeaderValue]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let any = origins.iter().any(|origin| origin == "*");
    let allowed = if any { AllowOrigin::any() } else { AllowOrigin::list(origins.iter().cloned()) };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::POST])
        // Metadata may have any name.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED);
    Some(layer)
}
