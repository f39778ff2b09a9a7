//! Rolling aggregates of a keyed stream: for each record, what its key has come to.
//!
//! One value a key; its table is found once a batch.

use super::keyed::{At, ensure_hashes, not_open};
use super::prefetch::Prefetched;
use super::when_empty;
use crate::key::KeySelector;
use crate::key::owned_key;
use crate::operator::{Budget, Collector, Cx, OpenContext, Operator, Progress};
use hurtig_core::batch::Drained;
use hurtig_core::error::user_failure;
use hurtig_core::key::OwnedKey;
use hurtig_core::{Batch, Result, UserError};
use hurtig_state::{Change, KeyedState, OperatorSnapshot, ScanBudget, StateValue, Table, ValueState};
use std::borrow::Borrow;
use std::ops::Add;
use std::sync::Arc;

/// The section of a rolling aggregate's state.
const VALUES: &str = "rolling";

/// One value a key.
struct Values<K: OwnedKey, V> {
    state: KeyedState<K>,
    handle: ValueState<V>,
    prefetched: Prefetched,
}

impl<K: OwnedKey, V: StateValue> Values<K, V> {
    fn open(ctx: &OpenContext<'_>) -> Result<Self> {
        let mut state = ctx.keyed_state();
        let handle = state.value(VALUES)?;
        ctx.declare(state.shapes())?;
        if let Some(snapshot) = ctx.restored() {
            state.restore(snapshot)?;
        }
        Ok(Self {
            state,
            handle,
            prefetched: Prefetched::default(),
        })
    }
}

/// Makes `change` with the first records of `input`, as many as budget and room allow, and emits what comes
/// out.
#[inline]
fn roll<T, S, V, C>(
    values: &mut Values<S::Key, V>,
    selector: &S,
    input: &mut Batch<T>,
    At { cx, out, budget }: At<'_, '_, C::Out>,
    change: &C,
) -> Result<Progress>
where
    S: KeySelector<T>,
    V: StateValue,
    C: Change<T, S::Key, V>,
{
    ensure_hashes(selector, input);
    let ahead = values.prefetched.ahead(&values.state, selector, input, cx);
    let n = budget.take(input.len().min(out.room()).min(ahead));
    values.prefetched.processed(n);
    let mut table = values.handle.table(&values.state);
    let Drained {
        records,
        times,
        hashes,
    } = input.drain_columns(n);
    out.batch().fill_with_times(&times, n, |rolled| {
        table.change_each(hashes, records, change, rolled);
    });
    drop(table);
    input.reset_if_empty();
    values.prefetched.quiet_point(&values.state)?;
    Ok(when_empty(input))
}

/// Hands the first records of `input` to `each` with the table of values, until it fails; emits what it
/// returns.
#[inline]
fn try_roll<T, S, V, Out>(
    values: &mut Values<S::Key, V>,
    selector: &S,
    input: &mut Batch<T>,
    At { cx, out, budget }: At<'_, '_, Out>,
    mut each: impl FnMut(&mut Table<S::Key, V>, u64, T) -> Result<Out>,
) -> Result<Progress>
where
    S: KeySelector<T>,
    V: StateValue,
{
    ensure_hashes(selector, input);
    let ahead = values.prefetched.ahead(&values.state, selector, input, cx);
    let n = budget.take(input.len().min(out.room()).min(ahead));
    values.prefetched.processed(n);
    let mut table = values.handle.table(&values.state);
    let Drained {
        records,
        times,
        hashes,
    } = input.drain_columns(n);
    for (i, (record, &hash)) in records.zip(hashes).enumerate() {
        out.push_at(each(&mut table, hash, record)?, times.get(i));
    }
    drop(table);
    input.reset_if_empty();
    values.prefetched.quiet_point(&values.state)?;
    Ok(when_empty(input))
}

/// Folds each record into its key's and emits the result: the first record of a key as it is.
pub struct Reduce<T, S: KeySelector<T>, F> {
    selector: Arc<S>,
    reduce: Arc<F>,
    values: Option<Values<S::Key, T>>,
}

impl<T, S: KeySelector<T>, F> std::fmt::Debug for Reduce<T, S, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reduce(open: {})", self.values.is_some())
    }
}

impl<T, S: KeySelector<T>, F> Reduce<T, S, F> {
    /// The operator that folds by `reduce`: a closure of this module's ([`sum`], [`min_by`], …), or any
    /// that changes what it has by what comes.
    pub fn new(selector: Arc<S>, reduce: Arc<F>) -> Self {
        Self {
            selector,
            reduce,
            values: None,
        }
    }
}

/// Folds a record into the table and returns what its key has come to.
#[inline]
fn reduce_into<T, S, E>(
    table: &mut Table<S::Key, T>,
    selector: &S,
    hash: u64,
    record: T,
    reduce: impl FnOnce(&mut T, T) -> Result<(), E>,
) -> Result<T, E>
where
    T: StateValue,
    S: KeySelector<T>,
{
    let places = &mut *table;
    match selector.with_key(&record, move |key| places.get_mut(hash, key)) {
        Some(value) => {
            reduce(value, record)?;
            Ok(value.clone())
        }
        None => {
            selector.with_key(&record, |key| {
                table.upsert(hash, key, || record.clone());
            });
            Ok(record)
        }
    }
}

/// What [`Reduce`] does with a record.
struct Reducing<'a, S, F>(&'a S, &'a F);

impl<T, S, F> Change<T, S::Key, T> for Reducing<'_, S, F>
where
    T: StateValue,
    S: KeySelector<T>,
    F: Fn(&mut T, T),
{
    type Out = T;
    type Key<'a>
        = S::Ref<'a>
    where
        T: 'a;

    #[inline(always)]
    fn key_of<'a>(&self, record: &'a T) -> S::Ref<'a> {
        self.0.key_of(record)
    }

    #[inline(always)]
    fn is_key(&self, stored: &S::Key, key: &S::Ref<'_>) -> bool {
        stored.borrow() == key.borrow()
    }

    #[inline(always)]
    fn change(&self, _: &S::Key, value: &mut T, record: T) -> T {
        (self.1)(value, record);
        value.clone()
    }

    fn owned_key(&self, record: &T) -> S::Key {
        owned_key(self.0, record)
    }

    fn first(&self, record: T) -> (S::Key, T, T) {
        (owned_key(self.0, &record), record.clone(), record)
    }
}

impl<T, S, F> Operator<T, T> for Reduce<T, S, F>
where
    T: StateValue,
    S: KeySelector<T>,
    F: Fn(&mut T, T) + Send + Sync + 'static,
{
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.values = Some(Values::open(ctx)?);
        Ok(())
    }

    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        Operator::<T, T>::open(self, ctx)
    }

    fn process(
        &mut self,
        input: &mut Batch<T>,
        cx: Cx<'_>,
        out: &mut Collector<T>,
        budget: &mut Budget,
    ) -> Result<Progress> {
        let values = self.values.as_mut().ok_or_else(not_open)?;
        let change = Reducing(&*self.selector, &*self.reduce);
        roll(values, &*self.selector, input, At { cx, out, budget }, &change)
    }

    fn snapshot(&mut self, _: &mut OperatorSnapshot) -> Result<()> {
        self.values.as_ref().ok_or_else(not_open)?.state.begin_snapshot()
    }

    fn continue_snapshot(
        &mut self,
        snapshot: &mut OperatorSnapshot,
        budget: &mut ScanBudget,
    ) -> Result<bool> {
        let values = self.values.as_ref().ok_or_else(not_open)?;
        values.state.continue_snapshot(snapshot, budget)
    }
}

/// As [`Reduce`], with a closure that may fail.
pub struct TryReduce<T, S: KeySelector<T>, F> {
    selector: Arc<S>,
    reduce: Arc<F>,
    values: Option<Values<S::Key, T>>,
}

impl<T, S: KeySelector<T>, F> std::fmt::Debug for TryReduce<T, S, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TryReduce(open: {})", self.values.is_some())
    }
}

impl<T, S: KeySelector<T>, F> TryReduce<T, S, F> {
    /// The operator that folds by `reduce`, whose error fails the task.
    pub fn new(selector: Arc<S>, reduce: Arc<F>) -> Self {
        Self {
            selector,
            reduce,
            values: None,
        }
    }
}

impl<T, S, F> Operator<T, T> for TryReduce<T, S, F>
where
    T: StateValue,
    S: KeySelector<T>,
    F: Fn(&mut T, T) -> Result<(), UserError> + Send + Sync + 'static,
{
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.values = Some(Values::open(ctx)?);
        Ok(())
    }

    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        Operator::<T, T>::open(self, ctx)
    }

    fn process(
        &mut self,
        input: &mut Batch<T>,
        cx: Cx<'_>,
        out: &mut Collector<T>,
        budget: &mut Budget,
    ) -> Result<Progress> {
        let values = self.values.as_mut().ok_or_else(not_open)?;
        let (selector, reduce) = (&*self.selector, &*self.reduce);
        try_roll(
            values,
            selector,
            input,
            At { cx, out, budget },
            |table, hash, record| {
                reduce_into(table, selector, hash, record, |value, record| {
                    reduce(value, record).map_err(user_failure)
                })
            },
        )
    }

    fn snapshot(&mut self, _: &mut OperatorSnapshot) -> Result<()> {
        self.values.as_ref().ok_or_else(not_open)?.state.begin_snapshot()
    }

    fn continue_snapshot(
        &mut self,
        snapshot: &mut OperatorSnapshot,
        budget: &mut ScanBudget,
    ) -> Result<bool> {
        let values = self.values.as_ref().ok_or_else(not_open)?;
        values.state.continue_snapshot(snapshot, budget)
    }
}

/// Folds each record into its key's accumulator and emits what the fold returns.
pub struct KeyedFold<T, S: KeySelector<T>, Acc, I, F> {
    selector: Arc<S>,
    init: Arc<I>,
    fold: Arc<F>,
    values: Option<Values<S::Key, Acc>>,
}

impl<T, S: KeySelector<T>, Acc, I, F> std::fmt::Debug for KeyedFold<T, S, Acc, I, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyedFold(open: {})", self.values.is_some())
    }
}

impl<T, S: KeySelector<T>, Acc, I, F> KeyedFold<T, S, Acc, I, F> {
    /// The operator that makes accumulators by `init` and changes them by `fold`, which is given the
    /// key, its accumulator and the record, and returns what to emit.
    pub fn new(selector: Arc<S>, init: Arc<I>, fold: Arc<F>) -> Self {
        Self {
            selector,
            init,
            fold,
            values: None,
        }
    }
}

/// What [`KeyedFold`] does with a record.
struct Folding<'a, S, I, F>(&'a S, &'a I, &'a F);

impl<T, S, Acc, Out, I, F> Change<T, S::Key, Acc> for Folding<'_, S, I, F>
where
    S: KeySelector<T>,
    I: Fn() -> Acc,
    F: Fn(&S::Borrowed, &mut Acc, &T) -> Out,
{
    type Out = Out;
    type Key<'a>
        = S::Ref<'a>
    where
        T: 'a;

    #[inline(always)]
    fn key_of<'a>(&self, record: &'a T) -> S::Ref<'a> {
        self.0.key_of(record)
    }

    #[inline(always)]
    fn is_key(&self, stored: &S::Key, key: &S::Ref<'_>) -> bool {
        stored.borrow() == key.borrow()
    }

    #[inline(always)]
    fn change(&self, key: &S::Key, acc: &mut Acc, record: T) -> Out {
        (self.2)(key.borrow(), acc, &record)
    }

    fn owned_key(&self, record: &T) -> S::Key {
        owned_key(self.0, record)
    }

    fn first(&self, record: T) -> (S::Key, Acc, Out) {
        let mut acc = (self.1)();
        let key = owned_key(self.0, &record);
        let out = (self.2)(key.borrow(), &mut acc, &record);
        (key, acc, out)
    }
}

impl<T, S, Acc, Out, I, F> Operator<T, Out> for KeyedFold<T, S, Acc, I, F>
where
    S: KeySelector<T>,
    Acc: StateValue,
    I: Fn() -> Acc + Send + Sync + 'static,
    F: Fn(&S::Borrowed, &mut Acc, &T) -> Out + Send + Sync + 'static,
{
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.values = Some(Values::open(ctx)?);
        Ok(())
    }

    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        Operator::<T, Out>::open(self, ctx)
    }

    fn process(
        &mut self,
        input: &mut Batch<T>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        budget: &mut Budget,
    ) -> Result<Progress> {
        let values = self.values.as_mut().ok_or_else(not_open)?;
        let change = Folding(&*self.selector, &*self.init, &*self.fold);
        roll(values, &*self.selector, input, At { cx, out, budget }, &change)
    }

    fn snapshot(&mut self, _: &mut OperatorSnapshot) -> Result<()> {
        self.values.as_ref().ok_or_else(not_open)?.state.begin_snapshot()
    }

    fn continue_snapshot(
        &mut self,
        snapshot: &mut OperatorSnapshot,
        budget: &mut ScanBudget,
    ) -> Result<bool> {
        let values = self.values.as_ref().ok_or_else(not_open)?;
        values.state.continue_snapshot(snapshot, budget)
    }
}

/// Keeps a record and sets its field to the sum of all: Flink's `sum(field)`.
pub fn sum<T, N: Add<Output = N>>(
    get: impl Fn(&T) -> N + Send + Sync + 'static,
    set: impl Fn(&mut T, N) + Send + Sync + 'static,
) -> impl Fn(&mut T, T) + Send + Sync + 'static {
    move |kept, record| set(kept, get(kept) + get(&record))
}

/// Keeps a record and sets its field to the least of all: Flink's `min(field)`.
pub fn min<T, N: PartialOrd>(
    get: impl Fn(&T) -> N + Send + Sync + 'static,
    set: impl Fn(&mut T, N) + Send + Sync + 'static,
) -> impl Fn(&mut T, T) + Send + Sync + 'static {
    move |kept, record| {
        let value = get(&record);
        if value < get(kept) {
            set(kept, value);
        }
    }
}

/// Keeps a record and sets its field to the greatest of all: Flink's `max(field)`.
pub fn max<T, N: PartialOrd>(
    get: impl Fn(&T) -> N + Send + Sync + 'static,
    set: impl Fn(&mut T, N) + Send + Sync + 'static,
) -> impl Fn(&mut T, T) + Send + Sync + 'static {
    move |kept, record| {
        let value = get(&record);
        if value > get(kept) {
            set(kept, value);
        }
    }
}

/// Keeps the record whose field is least, the first of equal ones: Flink's `minBy(field)`.
pub fn min_by<T, N: PartialOrd>(
    get: impl Fn(&T) -> N + Send + Sync + 'static,
) -> impl Fn(&mut T, T) + Send + Sync + 'static {
    move |kept, record| {
        if get(&record) < get(kept) {
            *kept = record;
        }
    }
}

/// Keeps the record whose field is greatest, the first of equal ones: Flink's `maxBy(field)`.
pub fn max_by<T, N: PartialOrd>(
    get: impl Fn(&T) -> N + Send + Sync + 'static,
) -> impl Fn(&mut T, T) + Send + Sync + 'static {
    move |kept, record| {
        if get(&record) > get(kept) {
            *kept = record;
        }
    }
}
