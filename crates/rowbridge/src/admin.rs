//! The admin listener: `/metrics`, `/healthz`, `/readyz`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use rowbridge_publisher::PublisherStatus;
use rowbridge_subscriber::TargetHealth;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::failure::Failure;
use crate::process_metrics::ProcessMetrics;

/// What is looked at.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) registry: Registry,
    pub(crate) process: ProcessMetrics,
    pub(crate) publisher: Option<watch::Receiver<PublisherStatus>>,
    pub(crate) target: Option<watch::Receiver<TargetHealth>>,
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Watched {
    /// Why this process is not ready, one reason each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if *self.stopping.borrow() {
            problems.push("stopping".to_owned());
        }
        if let Some(publisher) = &self.publisher {
            problems.extend(publisher.borrow().problems());
        }
        match self.target.as_ref().map(|target| target.borrow().clone()) {
            None | Some(TargetHealth::Reachable) => {}
            Some(TargetHealth::Unknown) => problems.push("target: not connected yet".to_owned()),
            Some(TargetHealth::Failed { message }) => problems.push(format!("target: {message}")),
        }
        problems
    }
}

/// Takes the address.
///
/// # Errors
/// It is taken, or not ours.
pub(crate) async fn bind(listen: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(listen)
        .await
        .map_err(|error| Failure::failed(format!("cannot listen on {listen} (admin.listen): {error}")))
}

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, watched: Watched) {
    if let Ok(listen) = listener.local_addr() {
        tracing::info!(%listen, "admin listener is up");
    }
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(Arc::new(watched));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "admin listener ended");
    }
}

async fn metrics(State(watched): State<Arc<Watched>>) -> Response {
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    watched.process.update();
    match TextEncoder::new().encode_to_string(&watched.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn ready(State(watched): State<Arc<Watched>>) -> Response {
    let problems = watched.problems();
    if problems.is_empty() {
        return "ready\n".into_response();
    }
    // One line each, whatever a driver's message holds.
    let lines = problems.iter().map(|problem| problem.replace('\n', " ") + "\n");
    (StatusCode::SERVICE_UNAVAILABLE, lines.collect::<String>()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(target: TargetHealth, stopping: bool) -> Watched {
        let registry = Registry::new();
        Watched {
            process: ProcessMetrics::new(&registry).unwrap(),
            registry,
            publisher: None,
            target: Some(watch::channel(target).1),
            stopping: watch::channel(stopping).1,
        }
    }

    async fn get(watched: Watched) -> (u16, String) {
        let response = ready(State(Arc::new(watched))).await;
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn each_reason_is_a_line() {
        assert_eq!(get(watched(TargetHealth::Reachable, false)).await, (200, "ready\n".to_owned()));
        let failed = TargetHealth::Failed { message: "no route\nto host".to_owned() };
        let reasons = "stopping\ntarget: no route to host\n".to_owned();
        assert_eq!(get(watched(failed, true)).await, (503, reasons));
    }
}
