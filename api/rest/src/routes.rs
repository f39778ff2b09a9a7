//! Which path leads where. `contract.tsv` beside the sources has what is known of each; `not-served.tsv` what is missing here.

use crate::server::nothing_here;
use crate::{
    applications, artifacts, checkpoints, exposition, jobs, machines, metrics, rescaling, savepoints,
    vertices,
};
use actix_web::Resource;
use actix_web::http::StatusCode;
use actix_web::web::{ServiceConfig, delete, get, patch, post, put, resource, scope, to};
use actix_web::{HttpRequest, HttpResponse};

use crate::error::RestError;

/// Paths may begin with a version.
pub(crate) fn with_version(app: &mut ServiceConfig) {
    app.service(scope("/v1").configure(routes).default_service(to(nothing_here)));
}

pub(crate) fn routes(app: &mut ServiceConfig) {
    of_the_cluster(app);
    of_task_managers(app);
    of_artifacts(app);
    of_applications(app);
    of_jobs(app);
    of_checkpoints(app);
    of_vertices(app);
}

/// A path. Methods that it does not have are refused by name.
fn at(path: &str) -> Resource {
    resource(path).default_service(to(no_such_method))
}

async fn no_such_method(request: HttpRequest) -> Result<HttpResponse, RestError> {
    let text = format!("{} is no method of {}", request.method(), request.path());
    Err(RestError::new(StatusCode::METHOD_NOT_ALLOWED, text))
}

fn of_the_cluster(app: &mut ServiceConfig) {
    app.service(at("/cluster").route(delete().to(jobs::shut_down)))
        .service(at("/overview").route(get().to(machines::overview)))
        .service(at("/config").route(get().to(machines::config)))
        .service(at("/metrics").route(get().to(exposition::metrics)))
        .service(at("/datasets").route(get().to(machines::datasets)))
        .service(at("/jobmanager/config").route(get().to(machines::settings)))
        .service(at("/jobmanager/environment").route(get().to(machines::environment)))
        .service(at("/jobmanager/metrics").route(get().to(machines::metrics)))
        .service(at("/jobmanager/thread-dump").route(get().to(machines::threads)))
        .service(at("/jobmanager/logs").route(get().to(machines::logs)))
        .service(at("/jobmanager/logs/{name}").route(get().to(machines::named_log)))
        .service(at("/jobmanager/log").route(get().to(machines::log)))
        .service(at("/jobmanager/stdout").route(get().to(machines::log)))
        .service(at("/savepoint-disposal").route(post().to(savepoints::dispose)))
        .service(at("/savepoint-disposal/{trigger}").route(get().to(savepoints::disposal)));
}

fn of_task_managers(app: &mut ServiceConfig) {
    app.service(at("/taskmanagers").route(get().to(machines::task_managers)))
        .service(at("/taskmanagers/metrics").route(get().to(machines::task_managers_metrics)))
        .service(at("/taskmanagers/{id}").route(get().to(machines::task_manager)))
        .service(at("/taskmanagers/{id}/metrics").route(get().to(machines::task_manager_metrics)))
        .service(at("/taskmanagers/{id}/thread-dump").route(get().to(machines::task_manager_threads)))
        .service(at("/taskmanagers/{id}/logs").route(get().to(machines::task_manager_logs)))
        .service(at("/taskmanagers/{id}/logs/{name}").route(get().to(machines::task_manager_named_log)))
        .service(at("/taskmanagers/{id}/log").route(get().to(machines::task_manager_log)))
        .service(at("/taskmanagers/{id}/stdout").route(get().to(machines::task_manager_log)));
}

fn of_artifacts(app: &mut ServiceConfig) {
    let plan = || at("/jars/{id}/plan").route(post().to(artifacts::plan));
    app.service(at("/jars").route(get().to(artifacts::list)))
        .service(at(artifacts::UPLOAD).route(post().to(artifacts::upload)))
        .service(at("/jars/{id}").route(delete().to(artifacts::forget)))
        .service(plan().route(get().to(artifacts::plan)))
        .service(at("/jars/{id}/run").route(post().to(artifacts::run)));
}

fn of_applications(app: &mut ServiceConfig) {
    app.service(at("/applications/overview").route(get().to(applications::overview)))
        .service(at("/applications/{id}").route(get().to(applications::detail)))
        .service(at("/applications/{id}/cancel").route(post().to(applications::cancel)))
        .service(at("/applications/{id}/exceptions").route(get().to(applications::exceptions)))
        .service(at("/applications/{id}/jobmanager/config").route(get().to(applications::settings)));
}

fn of_jobs(app: &mut ServiceConfig) {
    app.service(at("/jobs").route(get().to(jobs::ids)))
        .service(at("/jobs/overview").route(get().to(jobs::overview)))
        .service(at("/jobs/metrics").route(get().to(metrics::of_all_jobs)))
        .service(
            at("/jobs/{id}")
                .route(get().to(jobs::detail))
                .route(patch().to(jobs::cancel)),
        )
        .service(at("/jobs/{id}/plan").route(get().to(jobs::plan)))
        .service(at("/jobs/{id}/config").route(get().to(jobs::config)))
        .service(at("/jobs/{id}/status").route(get().to(jobs::status)))
        .service(at("/jobs/{id}/metrics").route(get().to(metrics::of_the_job)))
        .service(at("/jobs/{id}/accumulators").route(get().to(jobs::accumulators)))
        .service(at("/jobs/{id}/exceptions").route(get().to(jobs::exceptions)))
        .service(at("/jobs/{id}/execution-result").route(get().to(jobs::result)))
        .service(
            at("/jobs/{id}/resource-requirements")
                .route(get().to(rescaling::requirements))
                .route(put().to(rescaling::declare)),
        )
        .service(at("/jobs/{id}/jobmanager/config").route(get().to(applications::settings)));
}

fn of_checkpoints(app: &mut ServiceConfig) {
    app.service(
        at("/jobs/{id}/checkpoints")
            .route(get().to(checkpoints::statistics))
            .route(post().to(checkpoints::trigger)),
    )
    .service(at("/jobs/{id}/checkpoints/config").route(get().to(checkpoints::config)))
    .service(at("/jobs/{id}/checkpoints/details/{checkpoint}").route(get().to(checkpoints::detail)))
    .service(
        at("/jobs/{id}/checkpoints/details/{checkpoint}/subtasks/{vertex}")
            .route(get().to(checkpoints::subtasks)),
    )
    .service(at("/jobs/{id}/checkpoints/{trigger}").route(get().to(checkpoints::status)))
    .service(at("/jobs/{id}/stop").route(post().to(savepoints::stop)))
    .service(at("/jobs/{id}/savepoints").route(post().to(savepoints::trigger)))
    .service(at("/jobs/{id}/savepoints/{trigger}").route(get().to(savepoints::status)));
}

fn of_vertices(app: &mut ServiceConfig) {
    let vertex = |rest: &str| at(&format!("/jobs/{{id}}/vertices/{{vertex}}{rest}"));
    app.service(vertex("").route(get().to(vertices::detail)))
        .service(vertex("/subtasktimes").route(get().to(vertices::times)))
        .service(vertex("/taskmanagers").route(get().to(vertices::task_managers)))
        .service(vertex("/accumulators").route(get().to(vertices::accumulators)))
        .service(vertex("/backpressure").route(get().to(metrics::back_pressure)))
        .service(vertex("/watermarks").route(get().to(metrics::watermarks)))
        .service(vertex("/metrics").route(get().to(metrics::of_the_vertex)))
        .service(vertex("/jm-operator-metrics").route(get().to(metrics::of_coordinators)))
        .service(vertex("/subtasks/accumulators").route(get().to(vertices::subtask_accumulators)))
        .service(vertex("/subtasks/metrics").route(get().to(metrics::over_subtasks)))
        .service(vertex("/subtasks/{index}").route(get().to(vertices::subtask)))
        .service(vertex("/subtasks/{index}/metrics").route(get().to(metrics::of_the_subtask)))
        .service(vertex("/subtasks/{index}/attempts/{attempt}").route(get().to(vertices::attempt)))
        .service(
            vertex("/subtasks/{index}/attempts/{attempt}/accumulators")
                .route(get().to(vertices::attempt_accumulators)),
        );
}
