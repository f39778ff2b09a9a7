//! Settings of the operator that a stream comes from.

use super::DataStream;
use crate::Data;
use hurtig_dataflow::graph::{Chaining, StreamNode};
use std::time::Duration;

impl<T: Data> DataStream<T> {
    fn change(self, what: &str, change: impl FnOnce(&mut StreamNode)) -> Self {
        self.env.change_node(self.own_place(), what, change);
        self
    }

    /// Names the operator for good: state is found by it. Unique within the job.
    #[must_use]
    pub fn uid(self, uid: &str) -> Self {
        self.change("uid", |node| node.uid = Some(uid.to_owned()))
    }

    /// Gives the operator the identity that it had in a job without a `uid`: 32 hexadecimal digits
    /// from that job's log or plan. For migration only; a `uid` is what a program should have.
    #[must_use]
    pub fn set_uid_hash(self, hash: &str) -> Self {
        self.env.set_uid_hash(self.own_place(), hash);
        self
    }

    /// Sets the operator's name in plans, logs and metrics.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.change("name", |node| name.clone_into(&mut node.name))
    }

    /// Describes the operator in plans.
    #[must_use]
    pub fn description(self, text: &str) -> Self {
        self.change("description", |node| node.description = Some(text.to_owned()))
    }

    /// Sets how many subtasks the operator has.
    #[must_use]
    pub fn set_parallelism(self, parallelism: u32) -> Self {
        self.change("set_parallelism", |node| node.parallelism = Some(parallelism))
    }

    /// Sets the operator's number of key groups.
    #[must_use]
    pub fn set_max_parallelism(self, max_parallelism: u32) -> Self {
        self.change("set_max_parallelism", |node| {
            node.max_parallelism = Some(max_parallelism);
        })
    }

    /// Puts the operator's subtasks into slots that only this group shares.
    #[must_use]
    pub fn slot_sharing_group(self, group: &str) -> Self {
        self.change("slot_sharing_group", |node| {
            node.slot_sharing_group = Some(group.to_owned());
        })
    }

    /// Begins a new chain with the operator.
    #[must_use]
    pub fn start_new_chain(self) -> Self {
        self.change("start_new_chain", |node| node.chaining = Chaining::Head)
    }

    /// Gives the operator tasks of its own.
    #[must_use]
    pub fn disable_chaining(self) -> Self {
        self.change("disable_chaining", |node| node.chaining = Chaining::Never)
    }

    /// Sets how long records may wait in the operator's output buffers under load.
    #[must_use]
    pub fn set_buffer_timeout(self, timeout: Duration) -> Self {
        self.change("set_buffer_timeout", |node| node.buffer_timeout = Some(timeout))
    }
}

#[cfg(test)]
mod tests {
    use crate::StreamEnv;

    #[test]
    fn a_description_and_a_max_parallelism_are_those_of_one_operator() {
        let env = StreamEnv::new();
        env.set_max_parallelism(256);
        env.from_collection([1])
            .key_by(|n| *n)
            .reduce(|sum, n| *sum += n)
            .name("Sum")
            .description("the sum of each <number>")
            .set_max_parallelism(512)
            .map(|n| n + 1)
            .disable_chaining()
            .discard();
        let graph = env.job_graph("job").unwrap();
        let vertex = |name: &str| {
            let found = graph.vertices.iter().find(|vertex| vertex.name.contains(name));
            found.unwrap()
        };
        assert!(vertex("Sum").description.contains("the sum of each <number>"));
        assert_eq!(vertex("Sum").max_parallelism, 512);
        assert_eq!(vertex("Map").max_parallelism, 256);
        assert!(
            !vertex("Map").description.contains("sum"),
            "{}",
            vertex("Map").description
        );
        let plan = graph.plan_json().to_string();
        assert!(plan.contains("the sum of each &lt;number&gt;"), "{plan}");
    }

    #[test]
    fn more_subtasks_than_the_operator_can_have_are_refused() {
        let env = StreamEnv::new();
        env.from_collection([1])
            .map(|n| n + 1)
            .name("Plus")
            .set_max_parallelism(3)
            .set_parallelism(4)
            .discard();
        let mistake = env.job_graph("job").unwrap_err().to_string();
        assert!(
            mistake.contains("Plus") && mistake.contains('3') && mistake.contains('4'),
            "{mistake}"
        );
    }
}
