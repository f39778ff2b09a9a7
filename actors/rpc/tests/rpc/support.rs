//! A ResourceManager to talk to, and processes that have one.

use hurtig_core::time::{Clock, SystemClock, Time};
use hurtig_kit::{ActorEnv, BlockingPool, Component, ExitReason, KillSwitch, Mailbox, Shell, ShellCx};
use hurtig_rpc::{
    Call, Fences, Gateway, Identity, Peer, Registration, Routes, Rpc, RpcConfig, RpcSetup, TcpAcceptor,
    rpc_endpoint, rpc_message,
};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

/// No test takes longer: a condition that never holds fails it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// What an ask may take that is expected to be answered.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A TaskManager offers slots.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Register {
    pub(crate) name: String,
    pub(crate) slots: u32,
}

/// It was taken up.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Registered {
    pub(crate) number: usize,
}

/// A TaskManager lives.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    pub(crate) name: String,
}

/// What was heard so far.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Heard;

/// Something large; the reply is as large.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Graph {
    #[serde(with = "serde_bytes")]
    pub(crate) bytes: Vec<u8>,
}

/// A question that is kept and not answered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ponder;

/// How many of the questions that are kept are still wanted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Wanted;

/// A question that fails.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fail;

/// A question that nobody answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Drop_;

/// Asks the asker's process for what was heard there.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AskBack;

/// A message that only newer protocol versions have.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Later;

/// [`Heard`] under its name with another type.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HeardOtherwise {
    pub(crate) needed: u32,
}

rpc_message!(Register => Registered, "register", Control, since 1);
rpc_message!(Heartbeat => (), "heartbeat", Report, since 1);
rpc_message!(Heard => Vec<String>, "heard", Report, since 1);
rpc_message!(Graph => Graph, "graph", Bulk, since 1);
rpc_message!(Ponder => (), "ponder", Control, since 1);
rpc_message!(Wanted => usize, "wanted", Control, since 1);
rpc_message!(Fail => (), "fail", Control, since 1);
rpc_message!(Drop_ => (), "drop", Control, since 1);
rpc_message!(AskBack => Vec<String>, "ask-back", Control, since 1);
rpc_message!(Later => (), "later", Control, since 2);
rpc_message!(HeardOtherwise => Vec<String>, "heard", Report, since 1);

rpc_endpoint!(
    /// A ResourceManager.
    pub(crate) ManagerRpc = "resource-manager" { Register, Heartbeat, Heard, Graph, Ponder, Wanted, Fail, Drop_, AskBack, Later }
);
rpc_endpoint!(
    /// What somebody thinks that a ResourceManager is.
    pub(crate) OtherRpc = "resource-manager" { HeardOtherwise, Unheard }
);

/// What no ResourceManager takes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Unheard;
rpc_message!(Unheard => (), "unheard", Control, since 1);

pub(crate) enum Event {
    Register(Call<Register>),
    Heartbeat(Call<Heartbeat>),
    Heard(Call<Heard>),
    Graph(Call<Graph>),
    Ponder(Call<Ponder>),
    Wanted(Call<Wanted>),
    Fail(Call<Fail>),
    Drop_(Call<Drop_>),
    AskBack(Call<AskBack>),
    Later(Call<Later>),
    Nothing,
}

/// The ResourceManager's actor.
pub(crate) struct Manager {
    pub(crate) capacity: usize,
    pub(crate) heard: Rc<RefCell<Vec<String>>>,
    kept: Vec<hurtig_rpc::Responder<()>>,
}

impl Component for Manager {
    type Event = Event;

    fn name(&self) -> String {
        "resource manager".to_owned()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn handle(&mut self, event: Event, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        let mut heard = self.heard.borrow_mut();
        match event {
            Event::Register(call) => {
                heard.push(format!("{} offers {}", call.message.name, call.message.slots));
                call.reply.send(Registered { number: heard.len() });
            }
            Event::Heartbeat(call) => heard.push(call.message.name),
            Event::Heard(call) => call.reply.send(heard.clone()),
            Event::Graph(call) => call.reply.send(call.message),
            Event::Ponder(call) => self.kept.push(call.reply),
            Event::Wanted(call) => {
                let wanted = self.kept.iter().filter(|reply| reply.is_wanted());
                call.reply.send(wanted.count());
            }
            Event::Fail(call) => {
                let cause = hurtig_core::Error::user("no such file").context("cannot read the plan");
                call.reply.fail(&cause);
            }
            Event::Drop_(call) => drop(call),
            Event::AskBack(call) => {
                let asked = call.context.peer.gateway::<ManagerRpc>("rm").ask(Heard, SOON);
                let reply = call.reply;
                cx.drive(async move { reply.settle(asked.await) }, |_| Event::Nothing);
            }
            Event::Later(call) => call.reply.send(()),
            Event::Nothing => {}
        }
        Ok(())
    }
}

pub(crate) fn routes() -> Routes<ManagerRpc, Event> {
    Routes::new()
        .on(Event::Register)
        .on(Event::Heartbeat)
        .on(Event::Heard)
        .on(Event::Graph)
        .on(Event::Ponder)
        .on(Event::Wanted)
        .on(Event::Fail)
        .on(Event::Drop_)
        .on(Event::AskBack)
        .on(Event::Later)
}

/// Tokio's clock: under paused time it moves when nobody has anything to do.
#[derive(Debug)]
pub(crate) struct TokioClock(pub(crate) tokio::time::Instant);

impl Clock for TokioClock {
    fn now(&self) -> Time {
        Time::ZERO.after(self.0.elapsed())
    }

    fn wall_ms(&self) -> i64 {
        0
    }
}

// The threads of a test for what may block; nothing here does.
thread_local! {
    static POOL: RefCell<Option<BlockingPool>> = const { RefCell::new(None) };
}

pub(crate) fn env(clock: Arc<dyn Clock>) -> ActorEnv {
    let blocking = POOL.with(|pool| {
        pool.borrow_mut()
            .get_or_insert_with(|| BlockingPool::new().unwrap())
            .threads()
    });
    ActorEnv {
        clock,
        kill: KillSwitch::new(),
        blocking,
    }
}

fn run<T>(paused: bool, test: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(paused)
        .build()
        .unwrap();
    let local = LocalSet::new();
    let result = local.block_on(&runtime, async {
        // Virtual deadlines are generous: silence lasts.
        let patience = if paused {
            Duration::from_secs(3_600)
        } else {
            DEADLINE
        };
        tokio::time::timeout(patience, test)
            .await
            .unwrap_or_else(|_| panic!("the test hangs"))
    });
    drop(local);
    POOL.with(|pool| {
        pool.borrow_mut()
            .take()
            .into_iter()
            .for_each(|pool| pool.close(Duration::ZERO));
    });
    result
}

/// Runs a test with real sockets and real time.
pub(crate) fn real<T>(test: impl Future<Output = T>) -> T {
    run(false, test)
}

/// Runs a test whose time passes when everybody waits.
pub(crate) fn paused<T>(test: impl Future<Output = T>) -> T {
    run(true, test)
}

/// Lets others run until `condition` holds.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

/// A process with a ResourceManager called `rm`.
pub(crate) struct Process {
    pub(crate) rpc: Rpc,
    pub(crate) heard: Rc<RefCell<Vec<String>>>,
    pub(crate) mailbox: Mailbox<Event>,
    pub(crate) fences: Fences,
    pub(crate) kill: KillSwitch,
}

impl Process {
    pub(crate) fn new(setup: RpcSetup, fences: Fences, capacity: usize) -> Self {
        let (heard, env) = (Rc::new(RefCell::new(Vec::new())), setup.env.clone());
        let kill = env.kill.clone();
        let manager = Manager {
            capacity,
            heard: heard.clone(),
            kept: Vec::new(),
        };
        let (mailbox, probe) = Shell::start(manager, env);
        let rpc = Rpc::new(setup).unwrap();
        let registration = Registration {
            name: "rm".to_owned(),
            mailbox: mailbox.clone(),
            routes: routes(),
            fences: fences.clone(),
            probe: Some(probe),
        };
        rpc.register(registration).unwrap();
        Self {
            rpc,
            heard,
            mailbox,
            fences,
            kill,
        }
    }

    /// One that anybody may ask, over TCP.
    pub(crate) fn tcp(name: &str, change: impl FnOnce(&mut RpcConfig)) -> Self {
        let mut setup = RpcSetup::tcp(Identity::new(name, None), env(SystemClock::new()));
        change(&mut setup.config);
        Self::new(setup, Fences::open(), 1_000)
    }

    /// Lets others connect; where it listens.
    pub(crate) async fn listen(&self) -> String {
        let acceptor = TcpAcceptor::bind("127.0.0.1:0").await.unwrap();
        let address = acceptor.local_addr().unwrap().to_string();
        self.rpc.serve(acceptor);
        address
    }
}

pub(crate) fn manager(peer: &Peer) -> Gateway<ManagerRpc> {
    peer.gateway("rm")
}

pub(crate) fn register(name: &str) -> Register {
    Register {
        name: name.to_owned(),
        slots: 4,
    }
}

pub(crate) fn heartbeat(number: usize) -> Heartbeat {
    Heartbeat {
        name: number.to_string(),
    }
}
