//! How records become lines of text.

use hurtig_core::{Error, Result};
use std::fmt::{self, Display, Write};
use std::sync::Arc;

type WriteLine<T> = dyn Fn(&T, &mut String) -> fmt::Result + Send + Sync;

/// Writes records as lines; `Display`, or a closure of the user.
pub(crate) struct LineFormat<T> {
    write: Arc<WriteLine<T>>,
}

impl<T> Clone for LineFormat<T> {
    fn clone(&self) -> Self {
        Self {
            write: self.write.clone(),
        }
    }
}

impl<T> LineFormat<T> {
    pub(crate) fn display() -> Self
    where
        T: Display,
    {
        Self {
            write: Arc::new(|record, line| write!(line, "{record}")),
        }
    }

    pub(crate) fn closure(format: impl Fn(&T, &mut String) + Send + Sync + 'static) -> Self {
        let write = move |record: &T, line: &mut String| {
            format(record, line);
            Ok(())
        };
        Self {
            write: Arc::new(write),
        }
    }

    /// Appends `prefix`, the record and a line end.
    pub(crate) fn append(&self, prefix: &str, record: &T, to: &mut String) -> Result<()> {
        to.push_str(prefix);
        (self.write)(record, to).map_err(|e| Error::user("a record cannot be displayed").because(e))?;
        to.push('\n');
        Ok(())
    }
}
