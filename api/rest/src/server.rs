//! The server: its routes and bounds.

use crate::artifacts::Artifacts;
use crate::error::RestError;
use crate::operations::Operations;
use crate::routes::{routes, with_version};
use crate::{forward, guard};
use actix_web::http::StatusCode;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, PathConfig, PayloadConfig, QueryConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use hurtig_cluster::process::{JobManagerHandle, Logs};
use hurtig_core::time::{Clock, SystemClock};
use hurtig_reporters::{Collector, Limits, Reporting};
use std::collections::BTreeMap;
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
    pub(crate) operations: Operations,
    /// Those of this process.
    pub(crate) logs: Logs,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) collector: Arc<Collector>,
    pub(crate) limits: Limits,
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

/// Serves the REST API of a jobmanager, which was configured with `settings`, and tells its reporters what the cluster measures,
/// until the cluster is shut down. Must be called inside an
/// actix system.
///
/// # Errors
/// When the system has no threads for it.
pub async fn serve(
    listening: Listening,
    jobmanager: JobManagerHandle,
    settings: BTreeMap<String, String>,
    reporting: Reporting,
) -> io::Result<()> {
    let Listening { listener, address } = listening;
    let (stop, mut stopped) = watch::channel(false);
    let logs = Logs::of_this_process(None);
    let collector = Collector::new(jobmanager.clone(), logs.clone(), SystemClock::new());
    let collector = Arc::new(collector);
    let state = Data::new(State {
        jobmanager,
        artifacts: Artifacts::default(),
        operations: Operations::default(),
        logs,
        settings,
        collector: Arc::clone(&collector),
        limits: reporting.limits,
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
            .app_data(QueryConfig::default().error_handler(|error, _| bad_request(&error)))
            .app_data(PathConfig::default().error_handler(|error, _| bad_request(&error)))
            .configure(with_version)
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
    tokio::select! {
        served = server => served,
        () = reporting.run(collector) => Ok(()),
    }
}

/// What is wrong with a path or a query, in the form of all errors.
fn bad_request(error: &dyn std::fmt::Display) -> actix_web::Error {
    RestError::bad_request(error.to_string()).into()
}

pub(crate) async fn nothing_here(request: HttpRequest) -> Result<HttpResponse, RestError> {
    let text = format!("there is no {} {}", request.method(), request.path());
    Err(RestError::new(StatusCode::NOT_FOUND, text))
}
