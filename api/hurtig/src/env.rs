//! The environment: where a program begins, and where it is executed.

use crate::Data;
use crate::client::{JobClient, JobResult};
use crate::entry::CommandLine;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::listener::JobListener;
use crate::place::{Mistake, Place, ProgramId, STRANGER};
use crate::role::{Built, ProgramRole};
use crate::stream::{DataStream, Upstream};
use crate::submission::{Linked, Taken};
use hurtig_cluster::gateway::SubmitJob;
use hurtig_cluster::{ClusterHandle, EmbeddedCluster};
use hurtig_connector_datagen::{CollectionSource, SequenceSource};
use hurtig_connector_socket::SocketSource;
use hurtig_core::config::{BufferTimeout, Configuration, VertexDescriptionMode, options};
use hurtig_core::ids::{JobId, NodeId};
use hurtig_core::str::Str;
use hurtig_dataflow::graph::{
    DescriptionMode, GraphSettings, JobGraph, NodeKind, OperatorId, StreamGraph, StreamNode,
};
use hurtig_dataflow::operators::{WatermarkStrategy, Watermarks};
use hurtig_dataflow::program::{EdgeName, NodeCode, Program, TypedSource};
use hurtig_dataflow::source::Source;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A program under construction, and the settings that it will run with.
///
/// Handles are cheap to clone and mean the same environment. `execute` takes everything that was
/// built since the last one.
#[derive(Clone)]
pub struct StreamEnv {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    graph: StreamGraph,
    program: Program,
    config: Configuration,
    parallelism: Option<u32>,
    /// Given on the command line; weaker than the environment's own.
    client_parallelism: Option<u32>,
    max_parallelism: Option<u32>,
    chaining: bool,
    /// Over those of the configuration.
    parameters: BTreeMap<String, String>,
    listeners: Vec<Arc<dyn JobListener>>,
    args: Vec<String>,
    interrupt: Interrupt,
    /// Where the program's jobs run; `None` for a cluster of their own.
    cluster: Option<ClusterHandle>,
    /// In a process that a cluster has started: what for.
    role: Option<ProgramRole>,
    /// Which program the graph is of.
    id: ProgramId,
    /// Mistakes made while building, reported by `execute`.
    mistakes: Vec<Mistake>,
    /// What side outputs carry that somebody reads.
    side_types: BTreeMap<(NodeId, String), &'static str>,
}

impl Shared {
    fn own_node(&mut self, place: &Place) -> Option<&mut StreamNode> {
        let own = place.program == self.id;
        self.graph.node_mut(place.node).filter(|_| own)
    }
}

impl std::fmt::Debug for StreamEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamEnv({} operators)", self.lock().graph.nodes().len())
    }
}

impl Default for StreamEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl StreamEnv {
    /// An environment with default settings.
    pub fn new() -> Self {
        Self::with_config(Configuration::default())
    }

    /// An environment with the given settings.
    pub fn with_config(config: Configuration) -> Self {
        let shared = Shared {
            graph: StreamGraph::new(),
            program: Program::default(),
            config,
            parallelism: None,
            client_parallelism: None,
            max_parallelism: None,
            chaining: true,
            parameters: BTreeMap::new(),
            listeners: Vec::new(),
            args: Vec::new(),
            interrupt: Interrupt::current(),
            cluster: None,
            role: ProgramRole::current(),
            id: ProgramId::default(),
            mistakes: Vec::new(),
            side_types: BTreeMap::new(),
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// The environment of a `#[hurtig::main]`.
    pub(crate) fn of_program(config: Configuration, line: CommandLine, interrupt: Interrupt) -> Self {
        let env = Self::with_config(config);
        let mut shared = env.lock();
        (shared.args, shared.client_parallelism) = (line.rest, line.parallelism);
        shared.interrupt = interrupt;
        drop(shared);
        env
    }

    /// The environment of a `#[hurtig::main]` in a process that a cluster has started.
    pub(crate) fn in_role(config: Configuration, line: CommandLine, role: ProgramRole) -> Self {
        let env = Self::of_program(config, line, Interrupt::default());
        env.lock().role = Some(role);
        env
    }

    /// In a process that a cluster has started: what for.
    pub(crate) fn role(&self) -> Option<ProgramRole> {
        self.lock().role.clone()
    }

    /// An environment whose programs run on `cluster`.
    pub(crate) fn on_cluster(config: Configuration, cluster: ClusterHandle) -> Self {
        let env = Self::with_config(config);
        env.lock().cluster = Some(cluster);
        env
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program's own arguments, the program's name first: what the command line holds beyond
    /// `-D key=value`.
    pub fn args(&self) -> Vec<String> {
        self.lock().args.clone()
    }

    /// Sets the parallelism of operators that set none themselves.
    pub fn set_parallelism(&self, parallelism: u32) -> &Self {
        let mut shared = self.lock();
        if parallelism == 0 {
            shared.mistakes.push(
                "the environment's parallelism is 0; it must be at least 1"
                    .to_owned()
                    .into(),
            );
        }
        shared.parallelism = Some(parallelism);
        drop(shared);
        self
    }

    /// Sets the number of key groups, the upper bound of parallelism.
    pub fn set_max_parallelism(&self, max_parallelism: u32) -> &Self {
        self.lock().max_parallelism = Some(max_parallelism);
        self
    }

    /// Runs every operator in a task of its own.
    pub fn disable_operator_chaining(&self) -> &Self {
        self.lock().chaining = false;
        self
    }

    /// Sets how long records may wait in output buffers under load, for all operators that do not set
    /// it themselves; zero sends every record on at once.
    pub fn set_buffer_timeout(&self, timeout: Duration) -> &Self {
        let timeout = match timeout {
            Duration::ZERO => BufferTimeout::EachRecord,
            timeout => BufferTimeout::After(timeout),
        };
        let mut shared = self.lock();
        if let Err(error) = shared.config.set(&options::BUFFER_TIMEOUT, timeout) {
            shared.mistakes.push(error.to_string().into());
        }
        drop(shared);
        self
    }

    /// Takes a checkpoint at every interval, so that a job that failed goes on where it stood. Where they
    /// are kept is `execution.checkpointing.dir`.
    pub fn checkpoint_every(&self, interval: Duration) -> &Self {
        let mut shared = self.lock();
        if let Err(error) = shared.config.set(&options::CHECKPOINT_INTERVAL, Some(interval)) {
            shared.mistakes.push(error.to_string().into());
        }
        drop(shared);
        self
    }

    /// As [`Self::checkpoint_every`], at another interval while a source reads backlog: at least as long, or zero for
    /// no checkpoints then. Behind a backlog that was longer than the usual interval, one is taken at once.
    pub fn checkpoint_during_backlog_every(&self, interval: Duration) -> &Self {
        let mut shared = self.lock();
        let set = shared
            .config
            .set(&options::CHECKPOINT_INTERVAL_DURING_BACKLOG, Some(interval));
        if let Err(error) = set {
            shared.mistakes.push(error.to_string().into());
        }
        drop(shared);
        self
    }

    /// Adds parameters of the program: functions read them when they open, and they are shown with
    /// the job. They win over `pipeline.global-job-parameters`.
    pub fn set_global_job_parameters<K, V>(&self, parameters: impl IntoIterator<Item = (K, V)>) -> &Self
    where
        K: Into<String>,
        V: Into<String>,
    {
        let pairs = parameters
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        self.lock().parameters.extend(pairs);
        self
    }

    /// Adds a listener that is told of the jobs which this environment runs from now on.
    pub fn register_job_listener(&self, listener: impl JobListener + 'static) -> &Self {
        self.lock().listeners.push(Arc::new(listener));
        self
    }

    /// Changes a setting by key, as `-D key=value` does.
    ///
    /// # Errors
    /// When the key is unknown, belongs to the cluster, or the value does not fit.
    pub fn set(&self, key: &str, value: &str) -> Result<&Self, Error> {
        self.lock().config.set_text(key, value).map_err(Error::config)?;
        Ok(self)
    }

    /// The settings.
    pub fn config(&self) -> Configuration {
        self.lock().config.clone()
    }

    /// Reads a source, with event time as `watermarks` says.
    pub fn from_source<T: Data, S: Source<T>>(
        &self,
        source: S,
        watermarks: WatermarkStrategy<T>,
    ) -> DataStream<T> {
        let mut source = source;
        source.set_default_max_record_bytes(self.config().get(&options::MAX_RECORD_BYTES).as_usize());
        let mut node = StreamNode::new("Source", std::any::type_name::<S>(), NodeKind::Source);
        node.blocking = source.blocking();
        node.parallelism_limit = source.parallelism_limit();
        let code = NodeCode::Source(Box::new(TypedSource::new(source, watermarks)));
        let place = self.add_node(node, code);
        DataStream::of(self.clone(), Upstream::main(place))
    }

    /// The elements of a collection, once.
    pub fn from_collection<T: Data + Sync>(&self, elements: impl Into<Vec<T>>) -> DataStream<T> {
        self.from_source(CollectionSource::new(elements), Watermarks::none())
            .name("Collection Source")
    }

    /// The integers from `from` to `to`, both included.
    pub fn from_sequence(&self, from: i64, to: i64) -> DataStream<i64> {
        self.from_source(SequenceSource::new(from, to), Watermarks::none())
            .name("Sequence Source")
    }

    /// Lines of text from a socket, as a client of `address`.
    pub fn socket_text_stream(&self, address: &str) -> DataStream<Str> {
        self.from_source(SocketSource::lines(address), Watermarks::none())
            .name("Socket Source")
    }

    /// Notes a mistake, which may be in one operator.
    pub(crate) fn mistake(&self, place: Option<&Place>, what: String) {
        let mut shared = self.lock();
        let own = place.filter(|place| place.program == shared.id);
        let operator = own.map(|place| place.node);
        shared.mistakes.push(Mistake { operator, what });
    }

    pub(crate) fn add_node(&self, node: StreamNode, code: NodeCode) -> Place {
        let mut shared = self.lock();
        let node = shared.graph.add_node(node);
        shared.program.add_node(node, code);
        let program = shared.id.clone();
        Place { node, program }
    }

    pub(crate) fn add_edge<T: Data>(&self, from: &Upstream<T>, to: &Place, input: u8) {
        if from.place.program != to.program {
            self.mistake(Some(to), format!("it reads {STRANGER}"));
            return;
        }
        if let Some((side, other)) = from.side.as_ref().zip(self.side_of_another_type(from)) {
            let this = std::any::type_name::<T>();
            let problem = format!(
                "its side output '{side}' is read as {other} and as {this}: give each type a tag of its own name"
            );
            self.mistake(Some(&from.place), problem);
            return;
        }
        let (mut shared, to) = (self.lock(), to.node);
        shared.graph.add_edge(from.edge(to, input));
        let name = EdgeName {
            from: from.place.node,
            to,
            input,
            side: from.side.clone(),
        };
        shared.program.add_edge(name, from.code());
    }

    /// The type of which somebody has read this side output, if it was another one.
    fn side_of_another_type<T: Data>(&self, from: &Upstream<T>) -> Option<&'static str> {
        let key = (from.place.node, from.side.clone()?);
        let own = std::any::type_name::<T>();
        let mut shared = self.lock();
        let known = *shared.side_types.entry(key).or_insert(own);
        (known != own).then_some(known)
    }

    pub(crate) fn change_node(
        &self,
        place: Option<&Place>,
        what: &str,
        change: impl FnOnce(&mut StreamNode),
    ) {
        let mut shared = self.lock();
        let mistake = match place.map(|place| shared.own_node(place)) {
            Some(Some(node)) => return change(node),
            Some(None) => format!("{what} was called on {STRANGER}"),
            None => format!(
                "{what} was called on a stream that is no operator's own output (a union or side output): call it on \
                 the operator"
            ),
        };
        shared.mistakes.push(mistake.into());
    }

    pub(crate) fn set_uid_hash(&self, place: Option<&Place>, hash: &str) {
        match hash.parse::<OperatorId>() {
            Ok(id) => self.change_node(place, "set_uid_hash", |node| node.uid_hash = Some(id)),
            Err(reason) => self.mistake(None, format!("set_uid_hash: {reason}")),
        }
    }

    fn settings(shared: &Shared, name: &str) -> Result<GraphSettings, Error> {
        let config = &shared.config;
        let overrides = config.get(&options::PARALLELISM_OVERRIDES);
        let overrides = overrides.into_iter().map(|(vertex, parallelism)| {
            let id = vertex.parse().map_err(|_| Error::program(format!(
                "pipeline.jobvertex-parallelism-overrides names '{vertex}', which is no vertex id (32 hexadecimal digits)"
            )))?;
            Ok((id, parallelism))
        });
        let max_from_config = match config.get(&options::MAX_PARALLELISM) {
            hurtig_core::config::MaxParallelism::Auto => None,
            hurtig_core::config::MaxParallelism::Groups(max) => Some(max),
        };
        Ok(GraphSettings {
            job_name: config
                .get(&options::PIPELINE_NAME)
                .unwrap_or_else(|| name.to_owned()),
            environment_parallelism: shared.parallelism,
            client_parallelism: shared.client_parallelism,
            description_mode: match config.get(&options::VERTEX_DESCRIPTION_MODE) {
                VertexDescriptionMode::Tree => DescriptionMode::Tree,
                VertexDescriptionMode::Cascading => DescriptionMode::Cascading,
            },
            index_prefix: config.get(&options::VERTEX_NAME_INDEX_PREFIX),
            parameters: Self::parameters(shared),
            default_parallelism: config.get(&options::PARALLELISM_DEFAULT),
            max_parallelism: shared.max_parallelism.or(max_from_config),
            parallelism_overrides: overrides.collect::<Result<_, Error>>()?,
            chaining: shared.chaining && config.get(&options::OPERATOR_CHAINING),
            auto_generate_uids: config.get(&options::AUTO_GENERATE_UIDS),
            config: config
                .entries()
                .map(|entry| (entry.option.key().to_owned(), entry.value))
                .collect(),
        })
    }

    fn parameters(shared: &Shared) -> BTreeMap<String, String> {
        let mut parameters = shared.config.get(&options::GLOBAL_JOB_PARAMETERS);
        parameters.extend(shared.parameters.clone());
        parameters
    }

    /// The graph that `execute` would submit.
    ///
    /// # Errors
    /// When the program is wrong; the message names the operators.
    pub fn job_graph(&self, name: &str) -> Result<JobGraph, Error> {
        Self::graph_of(&self.lock(), name)
    }

    fn graph_of(shared: &Shared, name: &str) -> Result<JobGraph, Error> {
        if let Some(mistake) = shared.mistakes.first() {
            return Err(Error::program(mistake.text(&shared.graph)));
        }
        let settings = Self::settings(shared, name)?;
        shared
            .graph
            .job_graph(JobId::random(), &settings)
            .map_err(|error| Error::program(error.to_string()))
    }

    /// The plan as JSON, in the shape of Flink's.
    ///
    /// # Errors
    /// When the program is wrong.
    pub fn execution_plan(&self) -> Result<String, Error> {
        Ok(self.job_graph("plan")?.plan_json().to_string())
    }

    /// Runs the program and waits for its end.
    ///
    /// # Errors
    /// When the program is wrong, an input is missing, or the job failed or was cancelled.
    pub async fn execute(&self, name: &str) -> Result<JobResult, Error> {
        let result = match self.execute_async(name).await {
            Ok(job) => job.result().await,
            Err(error) => Err(error),
        };
        for listener in self.listeners() {
            listener.on_job_executed(result.as_ref());
        }
        result
    }

    fn listeners(&self) -> Vec<Arc<dyn JobListener>> {
        self.lock().listeners.clone()
    }

    /// Starts the program and returns a handle to the running job.
    ///
    /// # Errors
    /// When the program is wrong, an input is missing, or the cluster refuses the job.
    pub async fn execute_async(&self, name: &str) -> Result<JobClient, Error> {
        let submitted = self.submit(name).await;
        for listener in self.listeners() {
            listener.on_job_submitted(submitted.as_ref());
        }
        submitted
    }

    /// The program as a message to a Dispatcher: `dispatcher.send(env.submission("name")?)`. Whoever sends it decides where the job runs;
    /// [`Self::execute_async`] does the same for a program that has no actors of its own. Signals and listeners do not concern it.
    ///
    /// # Errors
    /// When the program is wrong or an input is missing. In a process that a cluster has started for the program, which runs what
    /// `execute` is called for.
    pub fn submission(&self, name: &str) -> Result<SubmitJob, Error> {
        if self.role().is_some() {
            let cause = "job '{name}' is to be sent as a message, but this process was started by a cluster, which runs the jobs that \
                         are executed: call execute instead";
            return Err(Error::program(cause.replace("{name}", name)));
        }
        Ok(self.take(name)?.link()?.job)
    }

    /// Everything that was built since the last time.
    fn take(&self, name: &str) -> Result<Taken, Error> {
        let mut shared = self.lock();
        let graph = Self::graph_of(&shared, name)?;
        let without_uid = shared.graph.stateful_without_uid();
        let without_uid = without_uid.map(|node| format!("'{}'", node.name)).collect();
        shared.graph = StreamGraph::new();
        shared.side_types.clear();
        shared.id = ProgramId::default();
        let program = std::mem::take(&mut shared.program);
        let config = shared.config.clone();
        drop(shared);
        let backend = crate::backend::state_backend(&config).map_err(|error| Error::Config(error.chain()))?;
        let setup = crate::settings::job_setup(&config, &backend)?;
        let built = Built {
            name: name.to_owned(),
            graph,
            program,
            config,
            backend,
            setup,
        };
        Ok(Taken { built, without_uid })
    }

    async fn submit(&self, name: &str) -> Result<JobClient, Error> {
        let taken = self.take(name)?;
        let (interrupt, shared_cluster, role) = {
            let shared = self.lock();
            (
                shared.interrupt.clone(),
                shared.cluster.clone(),
                shared.role.clone(),
            )
        };
        if let Some(role) = role {
            match role.take_over(taken.built).await? {}
        }
        let Linked { job, config, metrics } = taken.link()?;
        let starting = interrupt.starting(name, crate::settings::on_signal(&config)?)?;
        let parameters = job.graph.parameters.clone();
        let (cluster, own) = match shared_cluster {
            Some(cluster) => (cluster, None),
            None => {
                let cluster = EmbeddedCluster::start(crate::settings::cluster_config(&config)?)?;
                (cluster.clone(), Some(cluster))
            }
        };
        let job = cluster.submit(job.graph, job.code, job.options).await?;
        let client = JobClient::new(own, job, parameters, metrics);
        starting.started(client.job()).await;
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_program(definitions: &[&str], client_parallelism: Option<u32>) -> StreamEnv {
        let config = Configuration::builder().definitions(definitions).build();
        let line = CommandLine {
            parallelism: client_parallelism,
            ..CommandLine::default()
        };
        StreamEnv::of_program(config.unwrap(), line, Interrupt::default())
    }

    /// The parallelism of a map that sets what `own` says.
    fn parallelism(env: &StreamEnv, own: Option<u32>) -> u32 {
        let mapped = env.from_collection([1]).rebalance().map(|n: i32| n);
        let mapped = own.into_iter().fold(mapped, DataStream::set_parallelism);
        mapped.disable_chaining().discard();
        env.job_graph("job").unwrap().vertices[1].parallelism
    }

    #[test]
    fn parallelism_comes_from_operator_environment_client_and_configuration() {
        let of = |client| of_program(&["parallelism.default=2"], client);
        assert_eq!(parallelism(&of(None), None), 2);
        assert_eq!(parallelism(&of(Some(3)), None), 3);
        assert_eq!(parallelism(of(Some(3)).set_parallelism(4), None), 4);
        assert_eq!(parallelism(of(Some(3)).set_parallelism(4), Some(5)), 5);
    }

    #[test]
    fn vertices_are_described_as_the_configuration_says() {
        let description = |definitions: &[&str]| {
            let env = of_program(definitions, None);
            env.from_collection([1]).name("Numbers").discard();
            let vertex = env.job_graph("job").unwrap().vertices.remove(0);
            (vertex.name, vertex.description)
        };
        let text = |name: &str, description: &str| (name.to_owned(), description.to_owned());
        assert_eq!(
            description(&[]),
            text("Numbers -> Discard", "Numbers\n+- Discard\n")
        );
        assert_eq!(
            description(&[
                "pipeline.vertex-description-mode=CASCADING",
                "pipeline.vertex-name-include-index-prefix=true"
            ]),
            text("[vertex-0]Numbers -> Discard", "[vertex-0]Numbers -> Discard")
        );
    }

    #[test]
    fn a_uid_hash_is_the_identity_itself() {
        let hash = "0123456789abcdef0123456789abcdef";
        let env = StreamEnv::new();
        env.from_collection([1])
            .uid("strong")
            .set_uid_hash(hash)
            .discard()
            .set_uid_hash("00000000000000000000000000000007");
        let operators = env.job_graph("job").unwrap().vertices.remove(0).operators;
        assert_eq!(operators[0].id.to_string(), hash);
        assert_eq!(operators[1].id, OperatorId::from_u128(7));
        env.from_collection([1]).set_uid_hash("xyz").discard();
        let mistake = env.job_graph("job").unwrap_err().to_string();
        assert!(
            mistake.starts_with("set_uid_hash: 'xyz' is not an id"),
            "{mistake}"
        );
    }

    #[test]
    fn buffer_timeouts_of_environment_and_stream() {
        let env = StreamEnv::new();
        let timeout = Duration::from_millis(7);
        env.set_buffer_timeout(Duration::ZERO);
        env.from_collection([1]).set_buffer_timeout(timeout).discard();
        let graph = env.job_graph("job").unwrap();
        assert_eq!(graph.vertices[0].buffer_timeout, Some(timeout));
        let settings = crate::settings::task_settings(&env.config());
        assert_eq!(settings.flush.timeout, Some(Duration::ZERO));
        let disabled = of_program(&["execution.buffer-timeout.enabled=false"], None);
        disabled.set_buffer_timeout(timeout);
        assert_eq!(
            crate::settings::task_settings(&disabled.config()).flush.timeout,
            None
        );
    }
}
