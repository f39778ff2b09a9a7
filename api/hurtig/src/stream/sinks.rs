//! The ends of streams.

use super::{CollectHandle, CollectSink, DataStream, DiscardingSink};
use crate::place::Place;
use crate::{Data, StreamEnv};
use hurtig_connector_socket::StdoutSink;
use hurtig_dataflow::graph::{Chaining, NodeKind, StreamNode};
use hurtig_dataflow::operators::SinkOperator;
use hurtig_dataflow::program::{NodeCode, TypedOperator};
use hurtig_dataflow::sink::Sink;
use std::fmt::Display;
use std::sync::Arc;

/// A sink in the program, to be named and tuned.
#[derive(Clone, Debug)]
pub struct StreamSink {
    env: StreamEnv,
    place: Place,
}

impl StreamSink {
    fn change(self, what: &str, change: impl FnOnce(&mut StreamNode)) -> Self {
        self.env.change_node(Some(&self.place), what, change);
        self
    }

    /// Names the sink for good: state is found by it. Unique within the job.
    pub fn uid(self, uid: &str) -> Self {
        self.change("uid", |node| node.uid = Some(uid.to_owned()))
    }

    /// Gives the sink the identity that it had in a job without a `uid`: 32 hexadecimal digits.
    pub fn set_uid_hash(self, hash: &str) -> Self {
        self.env.set_uid_hash(Some(&self.place), hash);
        self
    }

    /// Sets the sink's name in plans, logs and metrics.
    pub fn name(self, name: &str) -> Self {
        self.change("name", |node| name.clone_into(&mut node.name))
    }

    /// Sets how many subtasks write.
    pub fn set_parallelism(self, parallelism: u32) -> Self {
        self.change("set_parallelism", |node| node.parallelism = Some(parallelism))
    }

    /// Puts the sink's subtasks into slots that only this group shares.
    pub fn slot_sharing_group(self, group: &str) -> Self {
        self.change("slot_sharing_group", |node| {
            node.slot_sharing_group = Some(group.to_owned());
        })
    }

    /// Gives the sink tasks of its own.
    pub fn disable_chaining(self) -> Self {
        self.change("disable_chaining", |node| node.chaining = Chaining::Never)
    }
}

impl<T: Data> DataStream<T> {
    /// Ends the stream in a sink.
    pub fn sink_to<S: Sink<T>>(&self, sink: S) -> StreamSink {
        let mut node = StreamNode::new("Sink", std::any::type_name::<S>(), NodeKind::Sink);
        node.blocking = sink.blocking();
        node.parallelism_limit = sink.parallelism_limit();
        let sink = Arc::new(sink);
        let check = sink.clone();
        let code = TypedOperator::<T, (), _>::new(move || SinkOperator::new(sink.writer()))
            .validated_by(Arc::new(move || check.validate()));
        let place = self.env.add_node(node, NodeCode::OneInput(Box::new(code)));
        for input in &self.inputs {
            self.env.add_edge(input, &place, 0);
        }
        StreamSink {
            env: self.env.clone(),
            place,
        }
    }

    /// Collects the stream into the client; see [`CollectHandle`].
    pub fn collect(&self) -> CollectHandle<T> {
        if self.env.role().is_some() {
            let why = "collect brings records into the process of the program, and on a cluster it has none: write them with a sink";
            self.env.mistake(None, why.to_owned());
        }
        let (sink, handle) = CollectSink::new();
        self.sink_to(sink).name("Collect");
        handle
    }

    /// Ends the stream without keeping its records; see [`DiscardingSink`].
    pub fn discard(&self) -> StreamSink {
        self.sink_to(DiscardingSink).name("Discard")
    }

    /// Runs the program and returns what this stream carried, in no particular order.
    ///
    /// # Errors
    /// As [`StreamEnv::execute`].
    pub async fn execute_and_collect(&self, job_name: &str) -> Result<Vec<T>, crate::Error> {
        let collected = self.collect();
        self.env.execute(job_name).await?;
        Ok(collected.take())
    }
}

impl<T: Data + Display> DataStream<T> {
    /// Prints every record on a line of standard output, behind its subtask's number when there are
    /// several.
    pub fn print(&self) -> StreamSink {
        self.sink_to(StdoutSink::new()).name("Print to Std. Out")
    }
}
