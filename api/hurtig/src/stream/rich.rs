//! Map, filter and flat map with functions that have a life.

use super::DataStream;
use crate::Data;
use hurtig_dataflow::operators::Process;
use hurtig_dataflow::rich::{FilterFunction, FlatMapFunction, MapFunction, RichFilter, RichFlatMap, RichMap};
use std::sync::Arc;

impl<T: Data> DataStream<T> {
    /// As [`DataStream::map`], with a struct that is opened and closed and has a context. `make` is
    /// called once a subtask, on the thread that runs it.
    pub fn map_with<F, Out>(&self, make: impl Fn() -> F + Send + Sync + 'static) -> DataStream<Out>
    where
        F: MapFunction<T, Out> + 'static,
        Out: Data,
    {
        let make = Arc::new(make);
        self.transform("Map", move || {
            let make = make.clone();
            Process::new(move || RichMap(make()))
        })
    }

    /// As [`DataStream::filter`], with a struct that is opened and closed and has a context.
    pub fn filter_with<F>(&self, make: impl Fn() -> F + Send + Sync + 'static) -> DataStream<T>
    where
        F: FilterFunction<T> + 'static,
    {
        let make = Arc::new(make);
        self.transform("Filter", move || {
            let make = make.clone();
            Process::new(move || RichFilter(make()))
        })
    }

    /// As [`DataStream::flat_map`], with a struct that is opened and closed and has a context.
    pub fn flat_map_with<F, Out>(&self, make: impl Fn() -> F + Send + Sync + 'static) -> DataStream<Out>
    where
        F: FlatMapFunction<T, Out> + 'static,
        Out: Data,
    {
        let make = Arc::new(make);
        self.transform("FlatMap", move || {
            let make = make.clone();
            Process::new(move || RichFlatMap(make()))
        })
    }
}
