//! What of a job a metric is about, read from its scope.

use super::MetricScope;

/// The kinds that the engine gives to parts of a scope, from the whole to the part. What follows them is the user's.
const KINDS: [&str; 9] = [
    "job",
    "tm_id",
    "process",
    "task",
    "task_id",
    "subtask",
    "attempt",
    "operator",
    "operator_id",
];

/// What of a job a metric is about. Groups of the user's come last and are never taken for something else, whatever their kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricPlace<'a> {
    known: [Option<&'a str>; KINDS.len()],
    /// Groups of the user's, from the whole to the part: their kinds and values.
    pub groups: Vec<(&'a str, &'a str)>,
}

impl<'a> MetricPlace<'a> {
    /// Reads it from a scope.
    #[must_use]
    pub fn of(scope: &'a MetricScope) -> Self {
        let (mut place, mut from) = (Self::default(), 0);
        for (kind, value) in scope.parts() {
            let found = KINDS[from..].iter().position(|known| *known == kind);
            match found.filter(|_| place.groups.is_empty()) {
                Some(at) => {
                    place.known[from + at] = Some(value);
                    from += at + 1;
                }
                None => place.groups.push((kind, value)),
            }
        }
        place
    }

    /// The job's name.
    #[must_use]
    pub fn job(&self) -> Option<&'a str> {
        self.known[0]
    }

    /// The id of the TaskManager at which it was measured.
    #[must_use]
    pub fn task_manager(&self) -> Option<&'a str> {
        self.known[1]
    }

    /// The role of the process that it is about.
    #[must_use]
    pub fn process(&self) -> Option<&'a str> {
        self.known[2]
    }

    /// The name of the vertex.
    #[must_use]
    pub fn task(&self) -> Option<&'a str> {
        self.known[3]
    }

    /// The id of the vertex.
    #[must_use]
    pub fn task_id(&self) -> Option<&'a str> {
        self.known[4]
    }

    /// Which subtask of the vertex.
    #[must_use]
    pub fn subtask(&self) -> Option<&'a str> {
        self.known[5]
    }

    /// Which try at the subtask.
    #[must_use]
    pub fn attempt(&self) -> Option<&'a str> {
        self.known[6]
    }

    /// The name of the operator.
    #[must_use]
    pub fn operator(&self) -> Option<&'a str> {
        self.known[7]
    }

    /// The id of the operator.
    #[must_use]
    pub fn operator_id(&self) -> Option<&'a str> {
        self.known[8]
    }
}

impl MetricScope {
    /// The same, measured at this TaskManager.
    #[must_use]
    pub fn at_task_manager(&self, id: &str) -> Self {
        let (mut parts, of_job) = (Vec::from(self.clone()), KINDS[0]);
        let behind_job = usize::from(parts.first().is_some_and(|(kind, _)| kind == of_job));
        parts.insert(behind_job, (KINDS[1].to_owned(), id.to_owned()));
        Self::from(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_users_are_never_taken_for_parts_of_the_job() {
        let task = MetricScope::root()
            .child("job", "clicks")
            .child("task", "count")
            .child("task_id", "7")
            .child("subtask", "3")
            .child("attempt", "1");
        let own = task.at_task_manager("m");
        let place = MetricPlace::of(&own);
        assert_eq!((place.job(), place.task_manager()), (Some("clicks"), Some("m")));
        assert_eq!((place.task_id(), place.subtask()), (Some("7"), Some("3")));
        assert_eq!((place.attempt(), place.operator()), (Some("1"), None));
        let user = task.child("operator", "o").child("operator_id", "9");
        let user = user
            .child("mine", "a")
            .child("operator_id", "b")
            .child("job", "c");
        let place = MetricPlace::of(&user);
        assert_eq!((place.operator_id(), place.job()), (Some("9"), Some("clicks")));
        assert_eq!(place.groups, [("mine", "a"), ("operator_id", "b"), ("job", "c")]);
    }

    #[test]
    fn a_process_of_a_job_is_no_task() {
        let scope = MetricScope::root()
            .child("job", "clicks")
            .child("process", "worker");
        let place = MetricPlace::of(&scope);
        assert_eq!((place.process(), place.task_id()), (Some("worker"), None));
    }
}
