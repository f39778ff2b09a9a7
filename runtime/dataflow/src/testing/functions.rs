//! Harnesses for functions, without naming the operators that run them.

use super::{Harness, TwoInputHarness};
use crate::broadcast::{BroadcastProcessFunction, KeyedBroadcastProcessFunction};
use crate::function::{
    CoProcessFunction, KeyedCoProcessFunction, KeyedOpenContext, KeyedProcessFunction, ProcessFunction,
};
use crate::key::ByValue;
use crate::operators::{
    BroadcastProcess, CoProcess, KeyedBroadcastProcess, KeyedCoProcess, KeyedProcess, Process,
};
use hurtig_core::key::OwnedKey;
use hurtig_core::{Result, UserError};
use std::sync::Arc;

/// A harness around a [`ProcessFunction`].
///
/// # Errors
/// When the function cannot be opened.
pub fn for_process_function<In, Out, F>(
    make: impl Fn() -> F + Send + Sync + 'static,
) -> Result<Harness<In, Out>>
where
    In: 'static,
    Out: 'static,
    F: ProcessFunction<In, Out> + 'static,
{
    let make = Arc::new(make);
    Harness::new(move || {
        let make = Arc::clone(&make);
        Process::new(move || make())
    })
}

/// A harness around a [`KeyedProcessFunction`]; `make` declares its state.
///
/// ```
/// # use hurtig_core::UserError;
/// # use hurtig_dataflow::function::{Emitter, KeyedCx, KeyedProcessFunction};
/// # use hurtig_dataflow::testing::for_keyed_process_function;
/// # use hurtig_state::ValueState;
/// struct Sum { total: ValueState<i64> }
///
/// impl KeyedProcessFunction<u64, i64, i64> for Sum {
///     fn process(&mut self, n: i64, cx: KeyedCx<'_, u64>, out: &mut Emitter<'_, i64>) -> Result<(), UserError> {
///         let total = self.total.get_cloned(cx).unwrap_or(0) + n;
///         self.total.set(cx, total);
///         out.emit(total);
///         Ok(())
///     }
/// }
///
/// let key = |n: &i64| n.unsigned_abs() % 2;
/// let mut harness = for_keyed_process_function(key, |ctx| Ok(Sum { total: ctx.value("total")? }))?;
/// harness.push_all([(1, 0), (2, 0), (3, 0), (4, 0)])?;
/// assert_eq!(harness.values(), [1, 2, 4, 6]);
/// # Ok::<(), hurtig_core::Error>(())
/// ```
///
/// # Errors
/// When the function cannot be made or opened.
pub fn for_keyed_process_function<In, Out, K, F>(
    key: impl Fn(&In) -> K + Send + Sync + 'static,
    make: impl Fn(&mut KeyedOpenContext<'_, K>) -> Result<F, UserError> + Send + Sync + 'static,
) -> Result<Harness<In, Out>>
where
    In: 'static,
    Out: 'static,
    K: OwnedKey,
    F: KeyedProcessFunction<K, In, Out> + 'static,
{
    let (key, make) = (Arc::new(ByValue::new(key)), Arc::new(make));
    Harness::new(move || {
        let make = Arc::clone(&make);
        KeyedProcess::with_state(Arc::clone(&key), move |ctx| make(ctx))
    })
}

/// A harness around a [`CoProcessFunction`].
///
/// # Errors
/// When the function cannot be opened.
pub fn for_co_process_function<A, B, Out, F>(
    make: impl Fn() -> F + Send + Sync + 'static,
) -> Result<TwoInputHarness<A, B, Out>>
where
    A: 'static,
    B: 'static,
    Out: 'static,
    F: CoProcessFunction<A, B, Out> + 'static,
{
    let make = Arc::new(make);
    TwoInputHarness::new(move || {
        let make = Arc::clone(&make);
        CoProcess::new(move || make())
    })
}

/// A harness around a [`KeyedCoProcessFunction`]; `first` and `second` find the keys of its inputs, `make` declares
/// its state.
///
/// # Errors
/// When the function cannot be made or opened.
pub fn for_keyed_co_process_function<A, B, Out, K, F>(
    first: impl Fn(&A) -> K + Send + Sync + 'static,
    second: impl Fn(&B) -> K + Send + Sync + 'static,
    make: impl Fn(&mut KeyedOpenContext<'_, K>) -> Result<F, UserError> + Send + Sync + 'static,
) -> Result<TwoInputHarness<A, B, Out>>
where
    A: 'static,
    B: 'static,
    Out: 'static,
    K: OwnedKey,
    F: KeyedCoProcessFunction<K, A, B, Out> + 'static,
{
    let (first, second) = (Arc::new(ByValue::new(first)), Arc::new(ByValue::new(second)));
    let make = Arc::new(make);
    TwoInputHarness::new(move || {
        let make = Arc::clone(&make);
        KeyedCoProcess::with_state(Arc::clone(&first), Arc::clone(&second), move |ctx| make(ctx))
    })
}

/// A harness around a [`BroadcastProcessFunction`]; its second input is the broadcast one.
///
/// # Errors
/// When the function cannot be opened.
pub fn for_broadcast_process_function<In, B, Out, F>(
    make: impl Fn() -> F + Send + Sync + 'static,
) -> Result<TwoInputHarness<In, B, Out>>
where
    In: 'static,
    B: 'static,
    Out: 'static,
    F: BroadcastProcessFunction<In, B, Out> + 'static,
{
    let make = Arc::new(make);
    TwoInputHarness::new(move || {
        let make = Arc::clone(&make);
        BroadcastProcess::new(move || make())
    })
}

/// A harness around a [`KeyedBroadcastProcessFunction`]; its second input is the broadcast one, `make` declares its
/// keyed state.
///
/// # Errors
/// When the function cannot be made or opened.
pub fn for_keyed_broadcast_process_function<In, B, Out, K, F>(
    key: impl Fn(&In) -> K + Send + Sync + 'static,
    make: impl Fn(&mut KeyedOpenContext<'_, K>) -> Result<F, UserError> + Send + Sync + 'static,
) -> Result<TwoInputHarness<In, B, Out>>
where
    In: 'static,
    B: 'static,
    Out: 'static,
    K: OwnedKey,
    F: KeyedBroadcastProcessFunction<K, In, B, Out> + 'static,
{
    let (key, make) = (Arc::new(ByValue::new(key)), Arc::new(make));
    TwoInputHarness::new(move || {
        let make = Arc::clone(&make);
        KeyedBroadcastProcess::with_state(Arc::clone(&key), move |ctx| make(ctx))
    })
}
