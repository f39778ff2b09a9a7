//! Which path leads where. `contract.tsv` beside the sources has what is known of each; `not-served.tsv` what is missing here.

use crate::server::nothing_here;
use crate::{
    applications, artifacts, checkpoints, document, exposition, jobs, machines, metrics, rescaling,
    savepoints, vertices,
};
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::web::{self, ServiceConfig, delete, get, patch, post, put, scope, to};
use actix_web::{HttpRequest, HttpResponse, ResponseError as _};
use std::future::ready;

use crate::error::RestError;

/// A method, a path as it stands in `served.tsv`, and what answers. Rows of one path stand together.
pub(crate) type Route = (&'static str, &'static str, fn() -> actix_web::Route);

/// Everything that is served. Of two paths that both fit, the first counts.
pub(crate) const ROUTES: [&[Route]; 7] = [
    OF_THE_CLUSTER,
    OF_TASK_MANAGERS,
    OF_ARTIFACTS,
    OF_APPLICATIONS,
    OF_JOBS,
    OF_CHECKPOINTS,
    OF_VERTICES,
];

/// Paths may begin with a version.
pub(crate) fn with_version(app: &mut ServiceConfig) {
    app.service(scope("/v1").configure(routes).default_service(to(nothing_here)));
}

pub(crate) fn routes(app: &mut ServiceConfig) {
    for part in ROUTES {
        for of_one in part.chunk_by(|one, other| one.1 == other.1) {
            // Methods that a path does not have are refused by name.
            let methods: Vec<&str> = of_one.iter().map(|route| route.0).collect();
            let methods = methods.join(", ");
            let refused = move |request: HttpRequest| ready(no_such_method(&request, &methods));
            let mut resource = web::resource(of_one[0].1).default_service(to(refused));
            for (_, _, route) in of_one {
                resource = resource.route(route());
            }
            app.service(resource);
        }
    }
}

fn no_such_method(request: &HttpRequest, allowed: &str) -> HttpResponse {
    let mut text = format!("{} is no method of {}", request.method(), request.path());
    if let Some(why) = crate::missing::why(request.method(), request.path()) {
        text = format!("{text}: {why}");
    }
    let mut answer = RestError::new(StatusCode::METHOD_NOT_ALLOWED, text).error_response();
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        answer.headers_mut().insert(ALLOW, allowed);
    }
    answer
}

const OF_THE_CLUSTER: &[Route] = &[
    ("DELETE", "/cluster", || delete().to(jobs::shut_down)),
    ("GET", "/overview", || get().to(machines::overview)),
    ("GET", "/config", || get().to(machines::config)),
    ("GET", "/metrics", || get().to(exposition::metrics)),
    ("GET", "/openapi.json", || get().to(document::openapi)),
    ("GET", "/datasets", || get().to(machines::datasets)),
    ("DELETE", "/datasets/{datasetid}", || {
        delete().to(machines::delete_dataset)
    }),
    ("GET", "/datasets/delete/{triggerid}", || {
        get().to(machines::dataset_deletion)
    }),
    ("GET", "/jobmanager/config", || get().to(machines::settings)),
    ("GET", "/jobmanager/environment", || {
        get().to(machines::environment)
    }),
    ("GET", "/jobmanager/metrics", || get().to(machines::metrics)),
    ("GET", "/jobmanager/thread-dump", || get().to(machines::threads)),
    ("GET", "/jobmanager/logs", || get().to(machines::logs)),
    ("GET", "/jobmanager/logs/{filename}", || {
        get().to(machines::named_log)
    }),
    ("GET", "/jobmanager/log", || get().to(machines::log)),
    ("GET", "/jobmanager/stdout", || get().to(machines::log)),
    ("POST", "/savepoint-disposal", || post().to(savepoints::dispose)),
    ("GET", "/savepoint-disposal/{triggerid}", || {
        get().to(savepoints::disposal)
    }),
];

const OF_TASK_MANAGERS: &[Route] = &[
    ("GET", "/taskmanagers", || get().to(machines::task_managers)),
    ("GET", "/taskmanagers/metrics", || {
        get().to(machines::task_managers_metrics)
    }),
    ("GET", "/taskmanagers/{taskmanagerid}", || {
        get().to(machines::task_manager)
    }),
    ("GET", "/taskmanagers/{taskmanagerid}/metrics", || {
        get().to(machines::task_manager_metrics)
    }),
    ("GET", "/taskmanagers/{taskmanagerid}/thread-dump", || {
        get().to(machines::task_manager_threads)
    }),
    ("GET", "/taskmanagers/{taskmanagerid}/logs", || {
        get().to(machines::task_manager_logs)
    }),
    ("GET", "/taskmanagers/{taskmanagerid}/logs/{filename}", || {
        get().to(machines::task_manager_named_log)
    }),
    ("GET", "/taskmanagers/{taskmanagerid}/log", || {
        get().to(machines::task_manager_log)
    }),
    ("GET", "/taskmanagers/{taskmanagerid}/stdout", || {
        get().to(machines::task_manager_log)
    }),
];

const OF_ARTIFACTS: &[Route] = &[
    ("GET", "/jars", || get().to(artifacts::list)),
    ("POST", artifacts::UPLOAD, || post().to(artifacts::upload)),
    ("DELETE", "/jars/{jarid}", || delete().to(artifacts::forget)),
    ("POST", "/jars/{jarid}/plan", || post().to(artifacts::plan)),
    ("GET", "/jars/{jarid}/plan", || get().to(artifacts::plan)),
    ("POST", "/jars/{jarid}/run", || post().to(artifacts::run)),
    ("POST", "/jars/{jarid}/run-application", || {
        post().to(artifacts::run_application)
    }),
];

const OF_APPLICATIONS: &[Route] = &[
    ("GET", "/applications/overview", || {
        get().to(applications::overview)
    }),
    ("GET", "/applications/{applicationid}", || {
        get().to(applications::detail)
    }),
    ("POST", "/applications/{applicationid}/cancel", || {
        post().to(applications::cancel)
    }),
    ("GET", "/applications/{applicationid}/exceptions", || {
        get().to(applications::exceptions)
    }),
    ("GET", "/applications/{applicationid}/jobmanager/config", || {
        get().to(applications::settings)
    }),
];

const OF_JOBS: &[Route] = &[
    ("GET", "/jobs", || get().to(jobs::ids)),
    ("GET", "/jobs/overview", || get().to(jobs::overview)),
    ("GET", "/jobs/metrics", || get().to(metrics::of_all_jobs)),
    ("GET", "/jobs/{jobid}", || get().to(jobs::detail)),
    ("PATCH", "/jobs/{jobid}", || patch().to(jobs::cancel)),
    ("PATCH", "/jobs/{jobid}/clientHeartbeat", || {
        patch().to(jobs::client_heartbeat)
    }),
    ("GET", "/jobs/{jobid}/resource-requirements", || {
        get().to(rescaling::requirements)
    }),
    ("PUT", "/jobs/{jobid}/resource-requirements", || {
        put().to(rescaling::declare)
    }),
    ("GET", "/jobs/{jobid}/plan", || get().to(jobs::plan)),
    ("GET", "/jobs/{jobid}/config", || get().to(jobs::config)),
    ("GET", "/jobs/{jobid}/status", || get().to(jobs::status)),
    ("GET", "/jobs/{jobid}/metrics", || get().to(metrics::of_the_job)),
    ("GET", "/jobs/{jobid}/accumulators", || {
        get().to(jobs::accumulators)
    }),
    ("GET", "/jobs/{jobid}/exceptions", || get().to(jobs::exceptions)),
    ("GET", "/jobs/{jobid}/execution-result", || get().to(jobs::result)),
    ("GET", "/jobs/{jobid}/jobmanager/log-url", || {
        get().to(machines::log_of_job_master)
    }),
    (
        "GET",
        "/jobs/{jobid}/taskmanagers/{taskmanagerid}/log-url",
        || get().to(machines::log_of_worker),
    ),
    ("GET", "/jobs/{jobid}/jobmanager/config", || {
        get().to(applications::settings)
    }),
];

const OF_CHECKPOINTS: &[Route] = &[
    ("GET", "/jobs/{jobid}/checkpoints", || {
        get().to(checkpoints::statistics)
    }),
    ("POST", "/jobs/{jobid}/checkpoints", || {
        post().to(checkpoints::trigger)
    }),
    ("GET", "/jobs/{jobid}/checkpoints/config", || {
        get().to(checkpoints::config)
    }),
    ("GET", "/jobs/{jobid}/checkpoints/details/{checkpointid}", || {
        get().to(checkpoints::detail)
    }),
    (
        "GET",
        "/jobs/{jobid}/checkpoints/details/{checkpointid}/subtasks/{vertexid}",
        || get().to(checkpoints::subtasks),
    ),
    ("GET", "/jobs/{jobid}/checkpoints/{triggerid}", || {
        get().to(checkpoints::status)
    }),
    ("POST", "/jobs/{jobid}/stop", || post().to(savepoints::stop)),
    ("POST", "/jobs/{jobid}/savepoints", || {
        post().to(savepoints::trigger)
    }),
    ("GET", "/jobs/{jobid}/savepoints/{triggerid}", || {
        get().to(savepoints::status)
    }),
];

macro_rules! of_vertex {
    ($rest:literal) => {
        concat!("/jobs/{jobid}/vertices/{vertexid}", $rest)
    };
}

const OF_VERTICES: &[Route] = &[
    ("GET", of_vertex!(""), || get().to(vertices::detail)),
    ("GET", of_vertex!("/subtasktimes"), || get().to(vertices::times)),
    ("GET", of_vertex!("/taskmanagers"), || {
        get().to(vertices::task_managers)
    }),
    ("GET", of_vertex!("/accumulators"), || {
        get().to(vertices::accumulators)
    }),
    ("GET", of_vertex!("/backpressure"), || {
        get().to(metrics::back_pressure)
    }),
    ("GET", of_vertex!("/watermarks"), || get().to(metrics::watermarks)),
    ("GET", of_vertex!("/metrics"), || get().to(metrics::of_the_vertex)),
    ("GET", of_vertex!("/flamegraph"), || {
        get().to(vertices::flame_graph)
    }),
    ("GET", of_vertex!("/jm-operator-metrics"), || {
        get().to(metrics::of_coordinators)
    }),
    ("GET", of_vertex!("/subtasks/accumulators"), || {
        get().to(vertices::subtask_accumulators)
    }),
    ("GET", of_vertex!("/subtasks/metrics"), || {
        get().to(metrics::over_subtasks)
    }),
    ("GET", of_vertex!("/subtasks/{subtaskindex}"), || {
        get().to(vertices::subtask)
    }),
    ("GET", of_vertex!("/subtasks/{subtaskindex}/metrics"), || {
        get().to(metrics::of_the_subtask)
    }),
    (
        "GET",
        of_vertex!("/subtasks/{subtaskindex}/attempts/{attempt}"),
        || get().to(vertices::attempt),
    ),
    (
        "GET",
        of_vertex!("/subtasks/{subtaskindex}/attempts/{attempt}/accumulators"),
        || get().to(vertices::attempt_accumulators),
    ),
];
