//! The server: its routes and bounds.

use crate::artifacts::{self, Artifacts};
use crate::error::RestError;
use crate::savepoints::{self, Savepoints};
use crate::{forward, guard, jobs};
use actix_web::http::StatusCode;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, PayloadConfig, ServiceConfig, delete, get, patch, post, resource};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use hurtig_cluster::process::JobManagerHandle;
use hurtig_core::time::{Clock, SystemClock};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The largest body but that of an upload.
const MAX_BODY: usize = 1 << 20;
/// Connections in all.
const MAX_CONNECTIONS: usize = 512;
/// How long the headers of a request may take.
const HEADERS: Duration = Duration::from_secs(5);

/// How the REST API is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestConfig {
    /// Its port on this machine (`rest.port`); 0: any.
    pub port: u16,
}

/// What the routes share.
pub(crate) struct State {
    pub(crate) jobmanager: JobManagerHandle,
    pub(crate) artifacts: Artifacts,
    pub(crate) savepoints: Savepoints,
    pub(crate) address: String,
    pub(crate) stop: watch::Sender<bool>,
    clock: Arc<dyn Clock>,
}

impl State {
    /// The time of day, in milliseconds since 1970.
    pub(crate) fn wall_ms(&self) -> i64 {
        self.clock.wall_ms()
    }
}

/// A port that is taken.
#[derive(Debug)]
pub struct Listening {
    listener: std::net::TcpListener,
    address: String,
}

impl RestConfig {
    /// Takes the port.
    ///
    /// # Errors
    /// When somebody else has it.
    pub fn listen(self) -> io::Result<Listening> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", self.port))?;
        let address = format!("http://{}", listener.local_addr()?);
        Ok(Listening { listener, address })
    }
}

impl Listening {
    /// Where it is: `http://127.0.0.1:8081`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Serves the REST API of a jobmanager until the cluster is shut down. Must be called inside an actix system.
///
/// # Errors
/// When the system has no threads for it.
pub async fn serve(listening: Listening, jobmanager: JobManagerHandle) -> io::Result<()> {
    let Listening { listener, address } = listening;
    let (stop, mut stopped) = watch::channel(false);
    let state = Data::new(State {
        jobmanager,
        artifacts: Artifacts::default(),
        savepoints: Savepoints::default(),
        address,
        stop,
        clock: SystemClock::new(),
    });
    let app = move || {
        App::new()
            .wrap(from_fn(forward::to_the_leader))
            .wrap(from_fn(guard::in_time))
            .wrap(from_fn(guard::only_local))
            .app_data(state.clone())
            .app_data(Data::new(forward::client()))
            .app_data(PayloadConfig::new(MAX_BODY))
            .configure(routes)
            .default_service(web::to(nothing_here))
    };
    let server = HttpServer::new(app)
        .workers(1)
        .max_connections(MAX_CONNECTIONS)
        .client_request_timeout(HEADERS)
        .shutdown_timeout(1)
        .listen(listener)?
        .run();
    let handle = server.handle();
    actix_web::rt::spawn(async move {
        // The sender lives as long as the server.
        let _ = stopped.wait_for(|stop| *stop).await;
        handle.stop(true).await;
    });
    server.await
}

fn routes(app: &mut ServiceConfig) {
    app.service(resource("/cluster").route(delete().to(jobs::shut_down)))
        .service(resource("/overview").route(get().to(jobs::cluster)))
        .service(resource("/taskmanagers").route(get().to(jobs::task_managers)))
        .service(resource("/jars").route(get().to(artifacts::list)))
        .service(resource(artifacts::UPLOAD).route(post().to(artifacts::upload)))
        .service(resource("/jars/{id}").route(delete().to(artifacts::forget)))
        .service(resource("/jars/{id}/run").route(post().to(artifacts::run)))
        .service(resource("/jobs").route(get().to(jobs::ids)))
        .service(resource("/jobs/overview").route(get().to(jobs::overview)))
        .service(
            resource("/jobs/{id}")
                .route(get().to(jobs::detail))
                .route(patch().to(jobs::cancel)),
        )
        .service(resource("/jobs/{id}/plan").route(get().to(jobs::plan)))
        .service(resource("/jobs/{id}/stop").route(post().to(savepoints::stop)))
        .service(resource("/jobs/{id}/savepoints").route(post().to(savepoints::trigger)))
        .service(resource("/jobs/{id}/savepoints/{trigger}").route(get().to(savepoints::status)))
        .service(resource("/jobs/{id}/status").route(get().to(jobs::status)))
        .service(resource("/jobs/{id}/checkpoints").route(get().to(jobs::checkpoints)))
        .service(resource("/jobs/{id}/exceptions").route(get().to(jobs::exceptions)))
        .service(resource("/jobs/{id}/execution-result").route(get().to(jobs::result)));
}

async fn nothing_here(request: HttpRequest) -> Result<HttpResponse, RestError> {
    let text = format!("there is no {} {}", request.method(), request.path());
    Err(RestError::new(StatusCode::NOT_FOUND, text))
}
