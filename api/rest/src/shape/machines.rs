//! Processes and machines as clients see them. There is no Java in them: what Flink says of its virtual machine is said of the
//! process, where that makes sense, and is null, -1 or 0 where it does not.

use super::metrics::{Named, of_values};
use hurtig_cluster::process::{LogFile, MachineFacts, TaskManagerOverview, ThreadFacts};
use hurtig_core::config::Redaction;
use hurtig_core::ids::AllocationId;
use hurtig_reporters::of_machine;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What Flink says when it does not know of which commit it was built.
pub(crate) const NO_COMMIT: &str = "<unknown>";

/// How often a page asks again, in milliseconds.
const REFRESH_MS: u64 = 3_000;

/// What Flink writes for a number that there is not.
const NONE: i64 = -1;

/// What a web page has to know; whether programs can be uploaded, and jobs cancelled.
pub(crate) fn config(submit: bool, cancel: bool) -> Value {
    json!({
        "refresh-interval": REFRESH_MS,
        // All times are told in milliseconds since 1970, and logs in this zone.
        "timezone-name": "Coordinated Universal Time",
        "timezone-offset": 0,
        "flink-version": env!("CARGO_PKG_VERSION"),
        "flink-revision": NO_COMMIT,
        "features": { "web-submit": submit, "web-cancel": cancel, "web-rescale": true, "web-history": false },
    })
}

/// What this process was started with, but for secrets.
pub(crate) fn environment(redaction: &Redaction) -> Value {
    let program = std::env::current_exe().ok();
    let program = program.and_then(|path| Some(path.to_str()?.to_owned()));
    // What is no text is no argument of ours.
    let arguments = std::env::args_os()
        .skip(1)
        .filter_map(|argument| argument.into_string().ok());
    let options = redaction.arguments(arguments);
    json!({
        "jvm": {
            "version": concat!("none: Hurtig ", env!("CARGO_PKG_VERSION"), " is a native program"),
            "arch": std::env::consts::ARCH,
            "options": options,
        },
        "classpath": program.into_iter().collect::<Vec<_>>(),
    })
}

pub(crate) fn logs(facts: &MachineFacts) -> Value {
    let one = |log: &LogFile| json!({ "name": log.name, "size": log.bytes, "mtime": log.modified_ms });
    json!({ "logs": facts.logs.iter().map(one).collect::<Vec<_>>() })
}

/// Threads without their stacks.
pub(crate) fn threads(facts: &MachineFacts) -> Value {
    let one = |thread: &ThreadFacts| {
        let does = if thread.runs { "RUNNABLE" } else { "WAITING" };
        json!({
            "threadName": thread.name,
            "stringifiedThreadInfo": format!("\"{}\" Id={} {does}", thread.name, thread.id),
        })
    };
    json!({ "threadInfos": facts.threads.iter().map(one).collect::<Vec<_>>() })
}

/// What a process uses.
pub(crate) fn metrics(facts: &MachineFacts) -> Named {
    of_values(of_machine(facts))
}

/// Slots are what is given out; memory is not divided among them.
fn resource(slots: u32) -> Value {
    json!({
        "cpuCores": f64::from(slots),
        "taskHeapMemory": NONE,
        "taskOffHeapMemory": NONE,
        "managedMemory": NONE,
        "networkMemory": NONE,
        "extendedResources": {},
    })
}

/// A TaskManager; `tasks` are those that run there, by slot.
pub(crate) fn task_manager(
    known: &TaskManagerOverview,
    facts: Option<&MachineFacts>,
    tasks: &BTreeMap<AllocationId, u32>,
    now: i64,
) -> Value {
    let memory = |of: fn(&MachineFacts) -> u64| facts.map_or(0, of);
    json!({
        "id": known.id.to_string(),
        "path": known.address,
        "dataPort": NONE,
        "jmxPort": NONE,
        // It has answered just now, or it has not.
        "timeSinceLastHeartbeat": facts.map_or(0, |_| now),
        "slotsNumber": known.slots,
        "freeSlots": known.free,
        "assignedTasks": tasks.values().sum::<u32>(),
        "totalResource": resource(known.slots),
        "freeResource": resource(known.free),
        "hardware": {
            "cpuCores": facts.map_or(0, |facts| facts.cores),
            "physicalMemory": memory(|facts| facts.physical_memory),
            "freeMemory": memory(|facts| facts.available_memory),
            "managedMemory": 0,
        },
        "memoryConfiguration": {
            "frameworkHeap": null,
            "taskHeap": null,
            "frameworkOffHeap": null,
            "taskOffHeap": null,
            "networkMemory": null,
            "managedMemory": null,
            "jvmMetaspace": null,
            "jvmOverhead": null,
            "totalFlinkMemory": null,
            "totalProcessMemory": null,
        },
    })
}

/// The slots of a TaskManager that jobs have.
pub(crate) fn slots(known: &TaskManagerOverview, tasks: &BTreeMap<AllocationId, u32>) -> Value {
    let all = known.workers.iter();
    let all = all.flat_map(|worker| worker.slots.iter().map(|slot| (worker.job, slot)));
    all.map(|(job, slot)| {
        let tasks = tasks.get(slot).copied().unwrap_or(0);
        json!({ "jobId": job.to_string(), "resource": resource(1), "assignedTasks": tasks })
    })
    .collect()
}

/// What the process of a TaskManager uses; its jobs have processes of their own.
pub(crate) fn memory(facts: Option<&MachineFacts>) -> Value {
    let of = |of: fn(&MachineFacts) -> u64| facts.map_or(json!(NONE), |facts| json!(of(facts)));
    json!({
        "heapUsed": of(|facts| facts.resident_memory),
        "heapCommitted": of(|facts| facts.resident_memory),
        "heapMax": of(|facts| facts.physical_memory),
        "nonHeapUsed": NONE,
        "nonHeapCommitted": NONE,
        "nonHeapMax": NONE,
        "directCount": NONE,
        "directUsed": NONE,
        "directMax": NONE,
        "mappedCount": NONE,
        "mappedUsed": NONE,
        "mappedMax": NONE,
        "nettyShuffleMemorySegmentsAvailable": NONE,
        "nettyShuffleMemorySegmentsUsed": NONE,
        "nettyShuffleMemorySegmentsTotal": NONE,
        "nettyShuffleMemoryAvailable": NONE,
        "nettyShuffleMemoryUsed": NONE,
        "nettyShuffleMemoryTotal": NONE,
        "garbageCollectors": [],
    })
}
