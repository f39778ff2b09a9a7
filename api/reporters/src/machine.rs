//! What a process uses, under the names that Flink has for its virtual machine, where they make sense.

use hurtig_cluster::process::MachineFacts;
use hurtig_core::metrics::MetricValue;

/// What a process uses. All of its memory is told as heap, of which the machine's is the limit: there is no other division.
pub fn of_machine(facts: &MachineFacts) -> Vec<(String, MetricValue)> {
    let numbers = [
        ("Status.JVM.CPU.Time", facts.cpu_ns),
        ("Status.JVM.Threads.Count", facts.threads.len() as u64),
        ("Status.JVM.FileDescriptor.Open", facts.open_files),
        ("Status.JVM.FileDescriptor.Max", facts.max_open_files),
        ("Status.JVM.Memory.Heap.Used", facts.resident_memory),
        ("Status.JVM.Memory.Heap.Committed", facts.resident_memory),
        ("Status.JVM.Memory.Heap.Max", facts.physical_memory),
    ];
    numbers
        .map(|(name, number)| (name.to_owned(), whole(number)))
        .into()
}

pub(crate) fn whole(number: u64) -> MetricValue {
    MetricValue::Gauge(i64::try_from(number).unwrap_or(i64::MAX))
}
