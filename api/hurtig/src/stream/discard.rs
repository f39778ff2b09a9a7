//! A sink that keeps nothing: Flink's `DiscardingSink`, SQL's `blackhole`.

use hurtig_core::{Batch, Result};
use hurtig_dataflow::operator::Cx;
use hurtig_dataflow::sink::{Sink, SinkWriter};

/// Takes every record and forgets it: for measurements, and for programs whose results are
/// accumulators or side effects.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiscardingSink;

impl<T: Send + 'static> Sink<T> for DiscardingSink {
    fn writer(&self) -> Box<dyn SinkWriter<T>> {
        Box::new(Self)
    }
}

impl<T: Send> SinkWriter<T> for DiscardingSink {
    fn write(&mut self, batch: &mut Batch<T>, _cx: Cx<'_>) -> Result<()> {
        batch.clear();
        Ok(())
    }
}
