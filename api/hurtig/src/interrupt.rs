//! What Ctrl-C and SIGTERM do to a program of `#[hurtig::main]`.
//!
//! The first one cancels the running jobs, or stops them with a savepoint if `execution.on-signal` says so, and
//! lets the program come to its end. The next one cancels jobs that are being stopped; without a job, and when
//! they have been cancelled, the process ends at once. A thread of its own waits for signals, so that they work
//! whatever the program's thread is doing.

use crate::{Error, logging};
use hurtig_cluster::JobHandle;
use hurtig_core::config::SignalAction;
use hurtig_dataflow::chain::StopMode;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

/// How long a program may go on once its jobs have been cancelled.
const FAREWELL: Duration = Duration::from_secs(10);

/// What a process is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    /// As shells report it: 128 and the signal's number.
    fn code(self) -> u8 {
        match self {
            Signal::Interrupt => 130,
            Signal::Terminate => 143,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::Interrupt => "interrupted",
            Signal::Terminate => "told to terminate",
        })
    }
}

#[derive(Default)]
struct State {
    signal: Option<Signal>,
    /// All jobs that the signal has reached are stopping or have stopped; none was cancelled.
    stopping: bool,
    /// Jobs are being stopped, and it was not said yet where their savepoints are.
    telling: bool,
    /// Jobs on their way to the cluster.
    starting: usize,
    jobs: Vec<(Weak<JobHandle>, SignalAction)>,
}

/// A job, and what a signal does to it.
type Reached = (Arc<JobHandle>, SignalAction);

/// The jobs that a signal would cancel, and the signal that came. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Interrupt {
    state: Arc<Mutex<State>>,
    told: Arc<Condvar>,
}

tokio::task_local! {
    /// For environments that a program without an environment of its own makes.
    static CURRENT: Interrupt;
}

impl Interrupt {
    /// That of the program which is being polled; one that no signal reaches elsewhere.
    pub(crate) fn current() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or_default()
    }

    /// Polls `program` so that environments made in it belong to this interrupt.
    pub(crate) fn scope<F: Future>(&self, program: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self.clone(), program)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The exit code of a program that a signal reached. One whose jobs have stopped as they were to has its own.
    pub(crate) fn exit_code(&self) -> Option<ExitCode> {
        let state = self.lock();
        let signal = state.signal.filter(|_| !state.stopping);
        signal.map(|signal| ExitCode::from(signal.code()))
    }

    /// A program whose job was stopped may come to its end before it was said where the savepoint is: waits for that.
    pub(crate) fn wait_until_told(&self) {
        let waited = self
            .told
            .wait_timeout_while(self.lock(), FAREWELL, |state| state.telling);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn is_told(&self) {
        self.lock().telling = false;
        self.told.notify_all();
    }

    /// A job is about to be submitted.
    ///
    /// # Errors
    /// When a signal came before.
    pub(crate) fn starting(&self, job: &str, on_signal: SignalAction) -> Result<Starting, Error> {
        let mut state = self.lock();
        if state.signal.is_some() {
            state.stopping = false;
            return Err(Error::JobCanceled { job: job.to_owned() });
        }
        state.starting += 1;
        Ok(Starting(self.clone(), on_signal))
    }

    /// Notes the signal; the jobs that it reaches. `None`: there is nothing that could be cancelled.
    fn raise(&self, signal: Signal) -> Option<Vec<Reached>> {
        let mut state = self.lock();
        state.signal = Some(signal);
        let jobs = state.jobs.iter();
        let jobs = jobs.filter_map(|(job, action)| Some((job.upgrade()?, *action)));
        let running: Vec<_> = jobs.filter(|(job, _)| is_running(job)).collect();
        let stopping = running.iter().all(|(_, action)| *action != SignalAction::Cancel);
        state.stopping = stopping && state.starting == 0 && !running.is_empty();
        state.telling = running.iter().any(|(_, action)| *action != SignalAction::Cancel);
        (state.starting > 0 || !running.is_empty()).then_some(running)
    }

    /// Jobs are cancelled after all.
    fn cancelling(&self) {
        self.lock().stopping = false;
    }
}

fn is_running(job: &JobHandle) -> bool {
    !job.status_updates().borrow().is_globally_terminal()
}

/// A job that is being submitted; a signal meanwhile does not end the process.
pub(crate) struct Starting(Interrupt, SignalAction);

impl Starting {
    /// It runs. A signal that came meanwhile cancels it now.
    pub(crate) async fn started(self, job: &Arc<JobHandle>) {
        let signalled = {
            let mut state = self.0.lock();
            state.jobs.retain(|(job, _)| job.strong_count() > 0);
            state.jobs.push((Arc::downgrade(job), self.1));
            state.signal.is_some()
        };
        if signalled {
            // A job that has ended already refuses.
            let _over = job.cancel().await;
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.lock().starting -= 1;
    }
}

/// Starts the thread that waits for signals.
pub(crate) fn watch(interrupt: Interrupt) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot wait for signals: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let entered = runtime.enter();
    let signals = Signals::new().map_err(failed)?;
    drop(entered);
    let thread = std::thread::Builder::new().name("hurtig-signals".to_owned());
    let serve = move || runtime.block_on(serve(interrupt, signals));
    // It ends with the process.
    thread.spawn(serve).map_err(failed).map(drop)
}

async fn serve(interrupt: Interrupt, mut signals: Signals) {
    let mut signal = signals.next().await;
    let Some(jobs) = interrupt.raise(signal) else {
        std::process::exit(signal.code().into());
    };
    let (cancelled, stopped): (Vec<Reached>, Vec<Reached>) = jobs
        .into_iter()
        .partition(|(_, action)| *action == SignalAction::Cancel);
    let mut cancelled: Vec<Arc<JobHandle>> = cancelled.into_iter().map(|(job, _)| job).collect();
    if !stopped.is_empty() {
        logging::say(format_args!(
            "{signal}: stopping the job with a savepoint; a second signal cancels it"
        ));
        let also = first_of(signals.next(), stop(&stopped, &mut cancelled)).await;
        interrupt.is_told();
        if let Some(another) = also {
            signal = another;
            cancelled.extend(stopped.into_iter().map(|(job, _)| job));
        } else if cancelled.is_empty() {
            // The program goes on to its end, and what it began since with it.
            let again = first_of(signals.next(), tokio::time::sleep(FAREWELL)).await;
            std::process::exit(again.unwrap_or(signal).code().into());
        }
    }
    interrupt.cancelling();
    logging::say(format_args!(
        "{signal}: cancelling the job; a second signal ends the program at once"
    ));
    let again = first_of(signals.next(), cancel(cancelled)).await;
    std::process::exit(again.unwrap_or(signal).code().into());
}

/// Stops jobs with savepoints; those that could not be stopped are to be cancelled.
async fn stop(jobs: &[Reached], cancelled: &mut Vec<Arc<JobHandle>>) {
    for (job, action) in jobs {
        let mode = if *action == SignalAction::Drain {
            StopMode::Drain
        } else {
            StopMode::Suspend
        };
        match job.stop(None, mode).await {
            Ok(path) => logging::say(format_args!(
                "job '{}' has stopped with savepoint {path}",
                job.name()
            )),
            // It has ended by itself.
            Err(_) if !is_running(job) => {}
            Err(error) => {
                logging::say(format_args!(
                    "job '{}' cannot stop with a savepoint: {error}",
                    job.name()
                ));
                cancelled.push(job.clone());
            }
        }
    }
}

/// Cancels jobs, waits for their ends, and gives the program time to end by itself.
async fn cancel(jobs: Vec<Arc<JobHandle>>) {
    for job in &jobs {
        // A job that has just ended refuses, and so does a cluster that is gone.
        let _over = job.cancel().await;
    }
    for job in &jobs {
        let mut status = job.status_updates();
        // An error means that the cluster is gone, and with it the job.
        let _gone = status.wait_for(|status| status.is_globally_terminal()).await;
    }
    drop(jobs);
    tokio::time::sleep(FAREWELL).await;
}

/// What `signal` gives, or `None` when `work` ends first.
async fn first_of<T>(signal: impl Future<Output = T>, work: impl Future<Output = ()>) -> Option<T> {
    let (mut signal, mut work) = (pin!(signal), pin!(work));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(value) = signal.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        work.as_mut().poll(cx).map(|()| None)
    })
    .await
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| {
            if self.interrupt.poll_recv(cx).is_ready() {
                return Poll::Ready(Signal::Interrupt);
            }
            self.terminate.poll_recv(cx).map(|_| Signal::Terminate)
        })
        .await
    }
}

/// Elsewhere there is Ctrl-C only.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_without_a_job_ends_the_process_and_refuses_later_jobs() {
        let interrupt = Interrupt::default();
        assert!(interrupt.exit_code().is_none());
        assert!(interrupt.raise(Signal::Terminate).is_none());
        assert_eq!(interrupt.exit_code(), Some(ExitCode::from(143)));
        let refused = interrupt
            .starting("late", SignalAction::Cancel)
            .err()
            .map(|error| error.to_string());
        assert_eq!(refused.as_deref(), Some("job 'late' was CANCELED"));
    }

    #[test]
    fn a_program_ends_when_it_was_said_where_the_savepoint_is() {
        let interrupt = Interrupt::default();
        interrupt.wait_until_told();
        interrupt.lock().telling = true;
        let (begun, is_begun) = std::sync::mpsc::sync_channel(1);
        let waiting = std::thread::spawn({
            let interrupt = interrupt.clone();
            move || {
                begun.send(()).unwrap();
                interrupt.wait_until_told();
                assert!(!interrupt.lock().telling, "it has waited");
            }
        });
        is_begun.recv().unwrap();
        interrupt.is_told();
        waiting.join().unwrap();
    }

    /// Environments that a program makes itself are reached too.
    #[test]
    fn what_a_program_makes_belongs_to_its_interrupt() {
        let interrupt = Interrupt::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let raised =
            runtime.block_on(interrupt.scope(async { Interrupt::current().raise(Signal::Interrupt) }));
        assert!(raised.is_none());
        assert_eq!(interrupt.exit_code(), Some(ExitCode::from(130)));
        Interrupt::current().raise(Signal::Terminate);
        assert_eq!(
            interrupt.exit_code(),
            Some(ExitCode::from(130)),
            "outside there is another"
        );
    }

    #[test]
    fn a_job_on_its_way_is_waited_for() {
        let interrupt = Interrupt::default();
        let Ok(starting) = interrupt.starting("job", SignalAction::Suspend) else {
            panic!("no signal has come");
        };
        assert!(
            interrupt
                .raise(Signal::Interrupt)
                .is_some_and(|jobs| jobs.is_empty())
        );
        drop(starting);
        assert!(interrupt.raise(Signal::Interrupt).is_none());
    }
}
