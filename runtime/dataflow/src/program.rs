//! A program's code, beside its graph.
//!
//! The graph is data and can be sent anywhere; closures cannot. A [`Program`] holds, for every
//! operator and edge of the graph, the code that makes its parts with their types known, behind
//! traits without type parameters. Each process of a job builds the same program by running the
//! same graph-building code.

use crate::chain::{
    AnyLink, GateHead, Head, InputGate, Link, Node, OperatorNode, Outlet, SidePort, SourceHead, Tail,
    TwoInputHead,
};
use crate::graph::{JobEdge, JobGraph};
use crate::operator::{Operator, Services, SideSink, TwoInputOperator};
use crate::operators::watermark::WatermarkStrategy;
use crate::source::{Source, SplitEnumerator};
use hurtig_core::ids::NodeId;
use hurtig_core::types::TypeInfo;
use hurtig_core::{Error, Result};
use hurtig_exchange::{
    ChannelKind, EdgeWriter, FlushPolicy, HashRecords, Partitioner, Receiver, RecordCodec, Sender, Signal,
    Watched, channel, channel_in, channel_out, remote,
};
use hurtig_state::StateShapes;
use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A value whose type only its maker and its consumer know.
pub type Erased = Box<dyn Any + Send>;

fn typed<T: 'static>(value: Erased, what: &str) -> Result<T> {
    let value = value.downcast::<T>().map(|value| *value);
    value.map_err(|_| Error::internal(format!("{what} does not carry {}", std::any::type_name::<T>())))
}

/// Makes the ends of a stream of one record type.
pub trait StreamCode: Send + Sync {
    /// A link that carries the stream within a chain.
    fn link(&self, policy: &FlushPolicy) -> Box<dyn AnyLink>;
    /// The end of a chain, given one `EdgeWriter` an edge.
    fn tail(&self, writers: Vec<Erased>) -> Result<Box<dyn Outlet>>;
    /// A side output, given one `EdgeWriter` an edge.
    fn side(&self, tag: &str, writers: Vec<Erased>) -> Result<Box<dyn SideSink>>;
    /// A channel: its `Sender` and its `Receiver`.
    fn channel(&self, kind: ChannelKind, producer: Signal, consumer: Signal) -> (Erased, Erased);
    /// The `Sender` of a channel to another process, and what carries it there.
    fn channel_out(
        &self,
        kind: ChannelKind,
        producer: Signal,
        connection: Signal,
    ) -> Result<(Erased, remote::Outlet)>;
    /// The `Receiver` of a channel from another process, and what brings it here.
    fn channel_in(
        &self,
        kind: ChannelKind,
        connection: Signal,
        consumer: Signal,
    ) -> Result<(remote::Inlet, Erased)>;
    /// What metrics see of a `Sender` or `Receiver`.
    fn watched(&self, end: &Erased) -> Option<Watched>;
}

/// The code of a stream of `T`.
pub struct TypedStream<T> {
    /// How its records are kept, if they cross channels.
    codec: Option<RecordCodec<T>>,
}

impl<T> Default for TypedStream<T> {
    fn default() -> Self {
        Self { codec: None }
    }
}

impl<T: Clone + Send + 'static> TypedStream<T> {
    fn writers(writers: Vec<Erased>) -> Result<Vec<EdgeWriter<T>>> {
        writers
            .into_iter()
            .map(|writer| typed(writer, "an edge"))
            .collect()
    }

    fn codec(&self) -> Result<RecordCodec<T>> {
        let unknown = || Error::internal("a stream that crosses no channel is to cross one");
        self.codec.clone().ok_or_else(unknown)
    }
}

impl<T: Clone + Send + 'static> StreamCode for TypedStream<T> {
    fn link(&self, policy: &FlushPolicy) -> Box<dyn AnyLink> {
        Box::new(Link::<T>::fitting(policy))
    }

    fn tail(&self, writers: Vec<Erased>) -> Result<Box<dyn Outlet>> {
        Ok(Box::new(Tail::new(Self::writers(writers)?)))
    }

    fn side(&self, tag: &str, writers: Vec<Erased>) -> Result<Box<dyn SideSink>> {
        Ok(Box::new(SidePort::new(tag.into(), Self::writers(writers)?)))
    }

    fn channel(&self, kind: ChannelKind, producer: Signal, consumer: Signal) -> (Erased, Erased) {
        let (sender, mut receiver) = channel::<T>(kind, producer, consumer);
        if let Some(codec) = &self.codec {
            receiver = receiver.keeping_by(codec.clone());
        }
        (Box::new(sender), Box::new(receiver))
    }

    fn channel_out(
        &self,
        kind: ChannelKind,
        producer: Signal,
        connection: Signal,
    ) -> Result<(Erased, remote::Outlet)> {
        let (sender, outlet) = channel_out(kind, self.codec()?, producer, connection);
        Ok((Box::new(sender), outlet))
    }

    fn channel_in(
        &self,
        kind: ChannelKind,
        connection: Signal,
        consumer: Signal,
    ) -> Result<(remote::Inlet, Erased)> {
        let (inlet, receiver) = channel_in(kind, self.codec()?, connection, consumer);
        Ok((inlet, Box::new(receiver)))
    }

    fn watched(&self, end: &Erased) -> Option<Watched> {
        let sender = end.downcast_ref::<Sender<T>>().map(Sender::watched);
        sender.or_else(|| end.downcast_ref::<Receiver<T>>().map(Receiver::watched))
    }
}

/// What a partitioner may need to know about the edge that it serves.
#[derive(Clone, Copy, Debug)]
pub struct EdgeShape {
    /// Consumers that the producing subtask reaches.
    pub consumers: u32,
    /// Key groups of the consuming vertex.
    pub max_parallelism: u32,
    /// Index of the producing subtask.
    pub producer: u32,
}

/// The code of one edge.
pub trait EdgeCode: Send + Sync {
    /// The record type that crosses it.
    fn stream(&self) -> &dyn StreamCode;
    /// The `EdgeWriter` of one producing subtask, given its `Sender`s.
    fn writer(&self, senders: Vec<Erased>, shape: EdgeShape, policy: FlushPolicy) -> Result<Erased>;
}

/// The code of an edge that carries `T`.
pub struct TypedEdge<T, P> {
    stream: TypedStream<T>,
    types: TypeInfo<T>,
    partitioner: P,
}

impl<T, P> TypedEdge<T, P>
where
    T: Clone + Send + 'static,
    P: Fn(EdgeShape) -> Partitioner<T> + Send + Sync,
{
    /// An edge whose producing subtasks each get a partitioner.
    pub fn new(types: TypeInfo<T>, partitioner: P) -> Self {
        Self {
            stream: TypedStream {
                codec: Some(RecordCodec::new(types)),
            },
            types,
            partitioner,
        }
    }

    /// The same edge, of records that have keys; `hasher` is the partitioners'.
    #[must_use]
    pub fn hashed_by(mut self, hasher: Option<Arc<dyn HashRecords<T>>>) -> Self {
        self.stream.codec = Some(RecordCodec::hashed_by(self.types, hasher));
        self
    }
}

impl<T, P> EdgeCode for TypedEdge<T, P>
where
    T: Clone + Send + 'static,
    P: Fn(EdgeShape) -> Partitioner<T> + Send + Sync,
{
    fn stream(&self) -> &dyn StreamCode {
        &self.stream
    }

    fn writer(&self, senders: Vec<Erased>, shape: EdgeShape, policy: FlushPolicy) -> Result<Erased> {
        let senders = senders
            .into_iter()
            .map(|sender| typed(sender, "a channel"))
            .collect::<Result<Vec<Sender<T>>>>()?;
        Ok(Box::new(EdgeWriter::new(
            senders,
            (self.partitioner)(shape),
            self.types,
            policy,
        )))
    }
}

/// The code of one operator, by its place in a chain.
pub enum NodeCode {
    /// Reads from outside.
    Source(Box<dyn SourceCode>),
    /// Has one input.
    OneInput(Box<dyn OneInputCode>),
    /// Has two inputs of different types.
    TwoInput(Box<dyn TwoInputCode>),
}

impl NodeCode {
    /// The types of the operator's states, learned without running it, see [`Operator::declare`].
    ///
    /// # Errors
    /// Those of a function that cannot be opened.
    pub fn states(&self, services: Services) -> Result<StateShapes> {
        match self {
            NodeCode::Source(code) => code.states(services),
            NodeCode::OneInput(code) => code.states(services),
            NodeCode::TwoInput(code) => code.states(services),
        }
    }

    /// The stream that the operator emits.
    pub fn output(&self) -> &dyn StreamCode {
        match self {
            NodeCode::Source(code) => code.output(),
            NodeCode::OneInput(code) => code.output(),
            NodeCode::TwoInput(code) => code.output(),
        }
    }
}

/// Makes the head of a source task.
pub trait SourceCode: Send + Sync {
    /// Checks paths and options before the job starts.
    fn validate(&self) -> Result<()>;
    /// The head of one subtask.
    fn head(&self, services: Services, watermark_interval: Duration) -> Box<dyn Head>;
    /// The types of the states of its readers.
    fn states(&self, services: Services) -> Result<StateShapes>;
    /// The source's enumerator, if it has splits.
    fn enumerator(&self) -> Option<Box<dyn SplitEnumerator>>;
    /// The stream that it emits.
    fn output(&self) -> &dyn StreamCode;
}

/// Makes nodes of an operator with one input.
pub trait OneInputCode: Send + Sync {
    /// Checks paths and options before the job starts.
    fn validate(&self) -> Result<()> {
        Ok(())
    }
    /// The types of the operator's states, see [`Operator::declare`].
    fn states(&self, services: Services) -> Result<StateShapes>;
    /// The node of one subtask.
    fn node(&self, services: Services) -> Box<dyn Node>;
    /// The head that reads the operator's input, given the `Receiver`s.
    fn gate(&self, receivers: Vec<Erased>) -> Result<Box<dyn Head>>;
    /// A link that carries its input.
    fn input_link(&self, policy: &FlushPolicy) -> Box<dyn AnyLink>;
    /// The stream that it emits.
    fn output(&self) -> &dyn StreamCode;
}

/// Makes heads of an operator with two inputs.
pub trait TwoInputCode: Send + Sync {
    /// The types of the operator's states, see [`Operator::declare`].
    fn states(&self, services: Services) -> Result<StateShapes>;
    /// The head of one subtask, given the `Receiver`s of both inputs.
    fn head(&self, first: Vec<Erased>, second: Vec<Erased>, services: Services) -> Result<Box<dyn Head>>;
    /// The stream that it emits.
    fn output(&self) -> &dyn StreamCode;
}

/// The code of a source of `T`.
pub struct TypedSource<T, S> {
    source: S,
    strategy: WatermarkStrategy<T>,
    output: TypedStream<T>,
}

impl<T: Clone + Send + 'static, S: Source<T>> TypedSource<T, S> {
    /// The code that reads `source` with watermarks by `strategy`.
    pub fn new(source: S, strategy: WatermarkStrategy<T>) -> Self {
        Self {
            source,
            strategy,
            output: TypedStream::default(),
        }
    }
}

impl<T: Clone + Send + 'static, S: Source<T>> SourceCode for TypedSource<T, S> {
    fn validate(&self) -> Result<()> {
        self.source.validate()
    }

    fn head(&self, services: Services, watermark_interval: Duration) -> Box<dyn Head> {
        Box::new(SourceHead::new(
            self.source.reader(),
            self.strategy.clone(),
            watermark_interval,
            services,
        ))
    }

    fn states(&self, services: Services) -> Result<StateShapes> {
        let mut reader = self.source.reader();
        services.learn_states(|ctx| reader.declare(ctx))
    }

    fn enumerator(&self) -> Option<Box<dyn SplitEnumerator>> {
        self.source.enumerator()
    }

    fn output(&self) -> &dyn StreamCode {
        &self.output
    }
}

/// Checks what can be checked before a job starts.
pub type Validate = Arc<dyn Fn() -> Result<()> + Send + Sync>;

/// The code of an operator from `In` to `Out`, made a subtask at a time by `make`.
pub struct TypedOperator<In, Out, F> {
    make: F,
    validate: Option<Validate>,
    input: PhantomData<fn(In)>,
    output: TypedStream<Out>,
}

impl<In, Out, F> TypedOperator<In, Out, F> {
    /// The code that makes operators with `make`.
    pub fn new(make: F) -> Self {
        Self {
            make,
            validate: None,
            input: PhantomData,
            output: TypedStream::default(),
        }
    }

    /// Adds a check that runs before the job starts.
    #[must_use]
    pub fn validated_by(mut self, validate: Validate) -> Self {
        self.validate = Some(validate);
        self
    }
}

impl<In, Out, O, F> OneInputCode for TypedOperator<In, Out, F>
where
    In: Clone + Send + 'static,
    Out: Clone + Send + 'static,
    O: Operator<In, Out> + 'static,
    F: Fn() -> O + Send + Sync,
{
    fn validate(&self) -> Result<()> {
        self.validate.as_ref().map_or(Ok(()), |validate| validate())
    }

    fn states(&self, services: Services) -> Result<StateShapes> {
        let mut operator = (self.make)();
        services.learn_states(|ctx| operator.declare(ctx))
    }

    fn node(&self, services: Services) -> Box<dyn Node> {
        Box::new(OperatorNode::new((self.make)(), services))
    }

    fn gate(&self, receivers: Vec<Erased>) -> Result<Box<dyn Head>> {
        Ok(Box::new(GateHead::new(gate::<In>(receivers)?)))
    }

    fn input_link(&self, policy: &FlushPolicy) -> Box<dyn AnyLink> {
        Box::new(Link::<In>::fitting(policy))
    }

    fn output(&self) -> &dyn StreamCode {
        &self.output
    }
}

fn gate<T: 'static>(receivers: Vec<Erased>) -> Result<InputGate<T>> {
    let channels = receivers.into_iter().map(|receiver| typed(receiver, "a channel"));
    Ok(InputGate::new(channels.collect::<Result<Vec<Receiver<T>>>>()?))
}

/// The code of an operator with two inputs.
pub struct TypedTwoInput<A, B, Out, F> {
    make: F,
    inputs: PhantomData<fn(A, B)>,
    output: TypedStream<Out>,
}

impl<A, B, Out, F> TypedTwoInput<A, B, Out, F> {
    /// The code that makes operators with `make`.
    pub fn new(make: F) -> Self {
        Self {
            make,
            inputs: PhantomData,
            output: TypedStream::default(),
        }
    }
}

impl<A, B, Out, O, F> TwoInputCode for TypedTwoInput<A, B, Out, F>
where
    A: Send + 'static,
    B: Send + 'static,
    Out: Clone + Send + 'static,
    O: TwoInputOperator<A, B, Out> + 'static,
    F: Fn() -> O + Send + Sync,
{
    fn states(&self, services: Services) -> Result<StateShapes> {
        let mut operator = (self.make)();
        services.learn_states(|ctx| operator.declare(ctx))
    }

    fn head(&self, first: Vec<Erased>, second: Vec<Erased>, services: Services) -> Result<Box<dyn Head>> {
        Ok(Box::new(TwoInputHead::new(
            (self.make)(),
            gate::<A>(first)?,
            gate::<B>(second)?,
            services,
        )))
    }

    fn output(&self) -> &dyn StreamCode {
        &self.output
    }
}

/// What names an edge of a program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EdgeName {
    /// The producing operator.
    pub from: NodeId,
    /// The consuming operator.
    pub to: NodeId,
    /// Which of the consumer's inputs: 0 or 1.
    pub input: u8,
    /// The producer's side output; `None` for its main one.
    pub side: Option<String>,
}

/// The code of a whole job.
#[derive(Default)]
pub struct Program {
    nodes: BTreeMap<NodeId, NodeCode>,
    /// More than one under a name when a union takes the same stream more than once, each with a
    /// partitioning of its own: in order of creation.
    edges: BTreeMap<EdgeName, Vec<Box<dyn EdgeCode>>>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Program({} operators, {} edges)",
            self.nodes.len(),
            self.edges.len()
        )
    }
}

impl Program {
    /// Adds the code of an operator.
    pub fn add_node(&mut self, id: NodeId, code: NodeCode) {
        self.nodes.insert(id, code);
    }

    /// Adds the code of an edge.
    pub fn add_edge(&mut self, name: EdgeName, code: Box<dyn EdgeCode>) {
        self.edges.entry(name).or_default().push(code);
    }

    /// The code of an operator.
    pub fn node(&self, id: NodeId) -> Result<&NodeCode> {
        self.nodes
            .get(&id)
            .ok_or_else(|| Error::internal(format!("the program has no code for operator {id}")))
    }

    /// The code of an edge of `graph`.
    pub fn edge(&self, graph: &JobGraph, edge: &JobEdge) -> Result<&dyn EdgeCode> {
        let name = EdgeName {
            from: edge.producer,
            to: edge.consumer,
            input: edge.input,
            side: edge.side.clone(),
        };
        let earlier = graph.edges.iter().take_while(|other| other.id != edge.id);
        let nth = earlier.filter(|other| other.is_parallel_to(edge)).count();
        let code = self
            .edges
            .get(&name)
            .and_then(|codes| codes.get(nth))
            .map(|code| &**code);
        code.ok_or_else(|| Error::internal(format!("the program has no code for edge {}", edge.id)))
    }

    /// Checks paths and options of every source, and of every sink of a job that begins afresh: one that
    /// is restored finds its own output.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn validate(&self, restored: bool) -> Result<()> {
        self.nodes.values().try_for_each(|node| match node {
            NodeCode::Source(code) => code.validate(),
            NodeCode::OneInput(code) if !restored => code.validate(),
            NodeCode::OneInput(_) | NodeCode::TwoInput(_) => Ok(()),
        })
    }
}
