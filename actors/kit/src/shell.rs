//! The shell: one generic actor that runs every component.
//!
//! It delivers events one at a time, catches panics, gives every ending a reason, and passes a
//! fault on to the kill switch. A component whose handler panicked is never called again.

use crate::blocking::BlockingThreads;
use crate::exit::{ActorFault, ExitReason};
use crate::guard::{Panicked, guard, guarded};
use crate::kill::KillSwitch;
use crate::mailbox::{Deliver, Mailbox};
use crate::outbox::Outbox;
use crate::probe::Probe;
use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, ArbiterHandle, AsyncContext, Context, Handler, SpawnHandle,
    fut::wrap_future,
};
use hurtig_core::time::{Clock, Time};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// A part of the control plane: a brain with what it needs to act. One event at a time.
pub trait Component: Sized + Unpin + 'static {
    /// Everything that can reach it: messages, timers, results. A closed enum.
    type Event: Send + 'static;

    /// Its name in logs and faults.
    fn name(&self) -> String;

    /// How many messages may wait for it.
    fn capacity(&self) -> usize;

    /// Called once, before any event.
    ///
    /// # Errors
    /// When it cannot start: it ends for this reason.
    fn started(&mut self, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        let _ = cx;
        Ok(())
    }

    /// Handles an event. Never blocks.
    ///
    /// # Errors
    /// When it ends: [`ExitReason::Done`], or a fault, which throws its kill switch.
    fn handle(&mut self, event: Self::Event, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason>;
}

/// What an actor is born into.
#[derive(Clone, Debug)]
pub struct ActorEnv {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// What ends it, and what its fault ends.
    pub kill: KillSwitch,
    /// Where its blocking work is done.
    pub blocking: BlockingThreads,
}

/// The actor around a component.
pub struct Shell<C: Component> {
    component: Option<C>,
    env: ActorEnv,
    probe: Arc<Probe>,
}

impl<C: Component> Shell<C> {
    /// Starts a component on the current local set.
    pub fn start(component: C, env: ActorEnv) -> (Mailbox<C::Event>, Arc<Probe>) {
        let shell = Self::new(component, env);
        let probe = shell.probe.clone();
        // Before anybody has the address: until then the capacity is actix's own, which is 16.
        let started = Self::create(|ctx| {
            ctx.set_mailbox_capacity(shell.capacity());
            shell
        });
        (address(started), probe)
    }

    /// Starts, on a thread, the component that `make` returns there.
    pub fn start_on(
        thread: &ArbiterHandle,
        env: ActorEnv,
        make: impl FnOnce() -> C + Send + 'static,
    ) -> Mailbox<C::Event> {
        address(Self::start_in_arbiter(thread, move |_| Self::new(make(), env)))
    }

    fn new(component: C, env: ActorEnv) -> Self {
        let probe = Arc::new(Probe::new(component.name()));
        Self {
            component: Some(component),
            env,
            probe,
        }
    }

    fn capacity(&self) -> usize {
        self.component.as_ref().map_or(1, Component::capacity)
    }

    fn deliver(&mut self, event: C::Event, ctx: &mut Context<Self>) {
        self.call(ctx, |component, cx| component.handle(event, cx));
    }

    /// Calls the component, unless it has ended.
    fn call(
        &mut self,
        ctx: &mut Context<Self>,
        call: impl FnOnce(&mut C, &mut ShellCx<'_, C>) -> Result<(), ExitReason>,
    ) {
        let Some(component) = &mut self.component else {
            return;
        };
        self.probe.enter(self.env.clock.now());
        let mut cx = ShellCx { ctx, env: &self.env };
        let outcome = guard(|| call(component, &mut cx));
        self.probe.leave();
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => self.end(reason, ctx),
            Err(Panicked { message }) => self.end(ExitReason::Panicked(message), ctx),
        }
    }

    fn end(&mut self, reason: ExitReason, ctx: &mut Context<Self>) {
        if self.probe.end(reason.clone()) && reason.is_fault() {
            let actor = self.probe.name().to_owned();
            tracing::error!(actor, %reason, "actor ended by a fault");
            self.env.kill.kill(ActorFault { actor, reason });
        }
        // A component in an unknown state may panic again when it is dropped.
        let component = self.component.take();
        if let Err(Panicked { message }) = guard(|| drop(component)) {
            tracing::error!(actor = self.probe.name(), message, "panicked while being dropped");
        }
        ctx.stop();
    }
}

fn address<C: Component>(addr: Addr<Shell<C>>) -> Mailbox<C::Event> {
    Mailbox::new(addr.recipient())
}

impl<C: Component> Actor for Shell<C> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.capacity());
        let kill = self.env.kill.clone();
        let killed = wrap_future(async move { kill.killed().await });
        ctx.spawn(killed.map(|_, shell: &mut Self, ctx| shell.end(ExitReason::Killed, ctx)));
        self.call(ctx, Component::started);
    }
}

impl<C: Component> Handler<Deliver<C::Event>> for Shell<C> {
    type Result = ();

    fn handle(&mut self, Deliver(event): Deliver<C::Event>, ctx: &mut Self::Context) {
        self.deliver(event, ctx);
    }
}

/// A timer that can be taken back.
#[derive(Clone, Copy, Debug)]
pub struct Timer(SpawnHandle);

/// What a component can do while it is called.
pub struct ShellCx<'a, C: Component> {
    ctx: &'a mut Context<Shell<C>>,
    env: &'a ActorEnv,
}

impl<C: Component> ShellCx<'_, C> {
    /// Engine time.
    pub fn now(&self) -> Time {
        self.env.clock.now()
    }

    /// What the actor was born into.
    pub fn env(&self) -> &ActorEnv {
        self.env
    }

    /// The component's own address.
    pub fn mailbox(&self) -> Mailbox<C::Event> {
        address(self.ctx.address())
    }

    /// A reliable way to another actor, whose bound breaking is this actor's fault.
    pub fn outbox<E: Send + 'static>(&self, name: &str, to: Mailbox<E>, limit: usize) -> Outbox<E> {
        Outbox::new(name, to, limit, self.env.kill.clone())
    }

    /// Delivers an event to this component after `delay`. It does not pass through the mailbox and
    /// is gone when the actor ends.
    pub fn after(&mut self, delay: Duration, event: C::Event) -> Timer {
        Timer(
            self.ctx
                .run_later(delay, move |shell, ctx| shell.deliver(event, ctx)),
        )
    }

    /// Takes a timer back; nothing happens when it has fired.
    pub fn cancel(&mut self, timer: Timer) {
        self.ctx.cancel_future(timer.0);
    }

    /// Drives a future within this actor; its result, or its panic, becomes an event.
    pub fn drive<F: Future + 'static>(
        &mut self,
        future: F,
        then: impl FnOnce(Result<F::Output, Panicked>) -> C::Event + 'static,
    ) {
        let guarded = wrap_future(guarded(future));
        self.ctx
            .spawn(guarded.map(|result, shell: &mut Shell<C>, ctx| shell.deliver(then(result), ctx)));
    }

    /// Drives a future within this actor; nobody waits for it. Its panic ends the actor.
    pub fn detach(&mut self, future: impl Future<Output = ()> + 'static) {
        let guarded = wrap_future(guarded(future));
        self.ctx.spawn(guarded.map(|result, shell: &mut Shell<C>, ctx| {
            if let Err(Panicked { message }) = result {
                shell.end(ExitReason::Panicked(message), ctx);
            }
        }));
    }

    /// Does blocking work on a thread that may block; its result, or its panic, becomes an event.
    pub fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(Result<T, Panicked>) -> C::Event + 'static,
    ) {
        let work = self.env.blocking.run(move || guard(work));
        // A blocking task is not aborted and its panics are caught, so joining it cannot fail
        // unless the pool is closing.
        let ended = || {
            Err(Panicked {
                message: "the threads for blocking work have ended".to_owned(),
            })
        };
        self.drive(async move { work.await.unwrap_or_else(|_| ended()) }, |result| {
            then(result.and_then(|result| result))
        });
    }
}

impl<C: Component> fmt::Debug for ShellCx<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShellCx")
    }
}

impl<C: Component> fmt::Debug for Shell<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shell").field(&self.probe).finish()
    }
}
