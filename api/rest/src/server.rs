//! The server: its routes and bounds.

use crate::artifacts::Uploads;
use crate::body::MAX_BODY;
use crate::config::Listening;
use crate::error::RestError;
use crate::guard::Gate;
use crate::machines::Deletions;
use crate::routes::{routes, with_version};
use crate::tls::Tls;
use crate::{forward, guard, tls};
use actix_web::http::StatusCode;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, PathConfig, PayloadConfig, QueryConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use hurtig_cluster::process::{JobManagerHandle, Logs};
use hurtig_core::config::Redaction;
use hurtig_core::time::{Clock, SystemClock};
use hurtig_reporters::{Collector, Limits, Reporting};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long the head of a request may take, so that a silent connection is closed within 5 s.
const HEADERS: Duration = Duration::from_secs(4);

/// What the routes share.
pub(crate) struct State {
    pub(crate) jobmanager: JobManagerHandle,
    pub(crate) uploads: Uploads,
    pub(crate) deletions: Deletions,
    /// Those of this process.
    pub(crate) logs: Logs,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) collector: Arc<Collector>,
    pub(crate) limits: Limits,
    pub(crate) address: String,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) gate: Gate,
    pub(crate) redaction: Redaction,
    /// Below which operators may have savepoints written.
    pub(crate) savepoint_dirs: Vec<String>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl State {
    /// The time of day, in milliseconds since 1970.
    pub(crate) fn wall_ms(&self) -> i64 {
        self.clock.wall_ms()
    }
}

/// Serves the REST API of a jobmanager, which was configured with `settings`, and tells its reporters what the cluster measures,
/// until the cluster is shut down or `told_to_end` returns: it listens to no signals itself. Must be called inside an actix system.
///
/// # Errors
/// When the system has no threads for it.
pub async fn serve(
    listening: Listening,
    jobmanager: JobManagerHandle,
    settings: BTreeMap<String, String>,
    reporting: Reporting,
    told_to_end: impl Future<Output = ()> + 'static,
) -> io::Result<()> {
    let Listening {
        listener,
        address,
        config,
    } = listening;
    let shown = |(key, value): (String, String)| {
        let value = config.redaction.shown(&key, &value).to_owned();
        (key, value)
    };
    let settings = settings.into_iter().map(shown).collect();
    let max_connections = config.max_connections;
    let to_others = config.tls.as_ref().and_then(Tls::client);
    let (stop, mut stopped) = watch::channel(false);
    let logs = Logs::of_this_process(None);
    let collector = Collector::new(jobmanager.clone(), logs.clone(), SystemClock::new());
    let collector = Arc::new(collector);
    let state = Data::new(State {
        jobmanager,
        uploads: Uploads::default(),
        deletions: Deletions::default(),
        logs,
        settings,
        collector: Arc::clone(&collector),
        limits: reporting.limits,
        address,
        stop,
        gate: config.gate,
        redaction: config.redaction,
        savepoint_dirs: config.savepoint_dirs,
        clock: SystemClock::new(),
    });
    let app = move || {
        App::new()
            .wrap(from_fn(forward::to_the_leader))
            .wrap(from_fn(guard::in_time))
            .wrap(from_fn(guard::admitted))
            .app_data(state.clone())
            .app_data(Data::new(forward::client(to_others.clone())))
            .app_data(PayloadConfig::new(MAX_BODY as usize))
            .app_data(QueryConfig::default().error_handler(|error, _| bad_request(&error)))
            .app_data(PathConfig::default().error_handler(|error, _| bad_request(&error)))
            .configure(with_version)
            .configure(routes)
            .default_service(web::to(nothing_here))
    };
    let server = match config.tls {
        Some(tls) => tls::serve(app, listener, tls, (max_connections, HEADERS))?,
        None => HttpServer::new(app)
            .workers(1)
            .max_connections(max_connections)
            .client_request_timeout(HEADERS)
            .shutdown_timeout(1)
            .disable_signals()
            .listen(listener)?
            .run(),
    };
    let handle = server.handle();
    actix_web::rt::spawn(async move {
        tokio::select! {
            // The sender lives as long as the server.
            _ = stopped.wait_for(|stop| *stop) => {}
            () = told_to_end => {}
        }
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
    let mut text = format!("there is no {} {}", request.method(), request.path());
    if let Some(why) = crate::missing::why(request.method(), request.path()) {
        text = format!("{text}: {why}");
    }
    Err(RestError::new(StatusCode::NOT_FOUND, text))
}
