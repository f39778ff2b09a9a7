//! What happens to an operator under test, step by step.

/// One step of a [`Script`].
#[derive(Clone, Debug, PartialEq)]
pub enum Step<T> {
    /// A record with its event time.
    Record(T, i64),
    /// Event time advances.
    Watermark(i64),
    /// Processing time advances, in wall-clock milliseconds.
    ProcessingTime(i64),
    /// What follows is backlog, or is not any more.
    Backlog(bool),
}

/// What happens to an operator under test. At its end come the last watermark and the end of input.
#[derive(Clone, Debug)]
pub struct Script<T> {
    steps: Vec<Step<T>>,
}

impl<T> Default for Script<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Script<T> {
    /// An empty script.
    pub const fn new() -> Self {
        Self { steps: Vec::new() }
    }

    /// A script of these steps.
    pub fn from_steps(steps: Vec<Step<T>>) -> Self {
        Self { steps }
    }

    /// Then a record with its event time.
    #[must_use]
    pub fn record(mut self, record: T, time: i64) -> Self {
        self.steps.push(Step::Record(record, time));
        self
    }

    /// Then records with their event times.
    #[must_use]
    pub fn records(mut self, records: impl IntoIterator<Item = (T, i64)>) -> Self {
        self.steps.extend(
            records
                .into_iter()
                .map(|(record, time)| Step::Record(record, time)),
        );
        self
    }

    /// Then a watermark.
    #[must_use]
    pub fn watermark(mut self, watermark: i64) -> Self {
        self.steps.push(Step::Watermark(watermark));
        self
    }

    /// Then processing time moves to `wall_ms`.
    #[must_use]
    pub fn processing_time(mut self, wall_ms: i64) -> Self {
        self.steps.push(Step::ProcessingTime(wall_ms));
        self
    }

    /// Then what follows is backlog, or is not any more.
    #[must_use]
    pub fn backlog(mut self, backlog: bool) -> Self {
        self.steps.push(Step::Backlog(backlog));
        self
    }

    /// The steps.
    pub fn steps(&self) -> &[Step<T>] {
        &self.steps
    }
}
