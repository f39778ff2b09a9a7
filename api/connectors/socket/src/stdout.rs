//! [`StdoutSink`]: lines to standard output or standard error.

use crate::text::LineFormat;
use hurtig_core::{Batch, Error, Result};
use hurtig_dataflow::operator::{Cx, OpenContext};
use hurtig_dataflow::sink::{Sink, SinkWriter};
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::sync::Arc;

/// Text that is collected before it is written without a flush.
const BUFFER_BYTES: usize = 64 * 1024;

type Open = Arc<dyn Fn() -> Box<dyn Write + Send> + Send + Sync>;

/// Prints a line for each record, as Flink's `print()`.
///
/// With more than one subtask each line begins with the number of its subtask, from 1: `3> `; with an
/// identifier `id:3> `, or `id> ` from a single subtask. Lines of different subtasks are never mixed.
/// When whoever reads the output closes it (`| head`), the job fails and says so.
///
/// ```
/// use hurtig_connector_socket::StdoutSink;
///
/// let words = StdoutSink::<String>::new();
/// let late = StdoutSink::<String>::stderr().identifier("late");
/// let pairs = StdoutSink::format(|(word, n): &(String, u64), line: &mut String| {
///     line.push_str(&format!("{word:20} {n}"));
/// });
/// # let _ = (words, late, pairs);
/// ```
pub struct StdoutSink<T> {
    format: LineFormat<T>,
    identifier: Option<String>,
    name: &'static str,
    open: Open,
}

impl<T> StdoutSink<T> {
    /// Records as their `Display` says, to standard output.
    #[allow(clippy::new_without_default, reason = "a default that prints would surprise")]
    pub fn new() -> Self
    where
        T: Display,
    {
        Self::with_format(LineFormat::display())
    }

    /// Records as their `Display` says, to standard error.
    pub fn stderr() -> Self
    where
        T: Display,
    {
        let open: Open = Arc::new(|| Box::new(io::stderr()));
        Self {
            name: "standard error",
            open,
            ..Self::new()
        }
    }

    /// Records as `format` writes them, to standard output; the line end is added.
    pub fn format(format: impl Fn(&T, &mut String) + Send + Sync + 'static) -> Self {
        Self::with_format(LineFormat::closure(format))
    }

    fn with_format(format: LineFormat<T>) -> Self {
        Self {
            format,
            identifier: None,
            name: "standard output",
            open: Arc::new(|| Box::new(io::stdout())),
        }
    }

    /// Begins each line with `identifier`, to tell the output of several sinks apart.
    #[must_use]
    pub fn identifier(mut self, identifier: impl Into<String>) -> Self {
        self.identifier = Some(identifier.into());
        self
    }
}

impl<T> Clone for StdoutSink<T> {
    fn clone(&self) -> Self {
        let (format, identifier, open) = (self.format.clone(), self.identifier.clone(), self.open.clone());
        Self {
            format,
            identifier,
            name: self.name,
            open,
        }
    }
}

impl<T> fmt::Debug for StdoutSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdoutSink")
            .field("to", &self.name)
            .field("identifier", &self.identifier)
            .finish()
    }
}

impl<T: Send + 'static> Sink<T> for StdoutSink<T> {
    fn writer(&self) -> Box<dyn SinkWriter<T>> {
        let output = (self.open)();
        Box::new(PrintWriter {
            sink: self.clone(),
            prefix: String::new(),
            text: String::new(),
            output,
        })
    }

    fn blocking(&self) -> bool {
        true
    }
}

struct PrintWriter<T> {
    sink: StdoutSink<T>,
    prefix: String,
    /// Whole lines that are not written yet.
    text: String,
    output: Box<dyn Write + Send>,
}

fn prefix(identifier: Option<&str>, subtask: Option<u32>) -> String {
    match (identifier, subtask) {
        (None, None) => String::new(),
        (Some(id), None) => format!("{id}> "),
        (None, Some(subtask)) => format!("{subtask}> "),
        (Some(id), Some(subtask)) => format!("{id}:{subtask}> "),
    }
}

impl<T> PrintWriter<T> {
    fn print(&mut self) -> Result<()> {
        // One call takes the stream's lock once, so that other subtasks' lines stay apart.
        let printed = self
            .output
            .write_all(self.text.as_bytes())
            .and_then(|()| self.output.flush());
        self.text.clear();
        let name = self.sink.name;
        printed.map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => Error::external(format!("{name} was closed by whoever read it"), e),
            _ => Error::external(format!("cannot write to {name}"), e),
        })
    }
}

impl<T: Send> SinkWriter<T> for PrintWriter<T> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let subtask = (ctx.info().parallelism > 1).then_some(ctx.info().index + 1);
        self.prefix = prefix(self.sink.identifier.as_deref(), subtask);
        Ok(())
    }

    fn write(&mut self, batch: &mut Batch<T>, _cx: Cx<'_>) -> Result<()> {
        for record in batch.records() {
            self.sink.format.append(&self.prefix, record, &mut self.text)?;
        }
        batch.clear();
        if self.text.len() >= BUFFER_BYTES {
            self.print()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<()> {
        if self.text.is_empty() {
            Ok(())
        } else {
            self.print()
        }
    }

    fn close(&mut self) -> Result<()> {
        self.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::time::ManualClock;
    use hurtig_dataflow::operator::{Services, SideOutputs, SubtaskInfo};
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn run(sink: &StdoutSink<u64>, index: u32, parallelism: u32) -> Result<()> {
        let info = SubtaskInfo {
            index,
            parallelism,
            ..SubtaskInfo::single("print")
        };
        let services = Services::new(info, ManualClock::new(), SideOutputs::default());
        let mut writer = sink.writer();
        writer.open(&mut OpenContext::new(&services, None))?;
        writer.write(&mut Batch::from_records(vec![7, 8]), services.cx())?;
        writer.flush()?;
        writer.close()
    }

    #[test]
    fn prefixes_are_those_of_flink() {
        let memory = Memory::default();
        let output = memory.clone();
        let sink = StdoutSink {
            open: Arc::new(move || Box::new(output.clone())),
            ..StdoutSink::new()
        };
        run(&sink, 0, 1).unwrap();
        run(&sink, 2, 4).unwrap();
        run(&sink.clone().identifier("late"), 0, 1).unwrap();
        run(&sink.identifier("late"), 2, 4).unwrap();
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "7\n8\n3> 7\n3> 8\nlate> 7\nlate> 8\nlate:3> 7\nlate:3> 8\n");
    }

    #[test]
    fn a_closed_output_is_an_error_that_says_so() {
        let sink = StdoutSink {
            open: Arc::new(|| Box::new(Closed)),
            ..StdoutSink::new()
        };
        let error = run(&sink, 0, 1).unwrap_err();
        assert_eq!(error.to_string(), "standard output was closed by whoever read it");
    }
}
