//! Shells, mailboxes and outboxes as real actors: what actix alone gets wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use actix::System;
use hurtig_core::time::ManualClock;
use hurtig_kit::{
    ActorEnv, ActorState, AskError, BlockingPool, Component, ExitReason, KillSwitch, Mailbox, Outbox,
    Panicked, Reply, Shell, ShellCx, TellError, guard, guarded,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// No test takes longer: a condition that never holds fails it.
const DEADLINE: Duration = Duration::from_secs(10);

enum Event {
    Note(u32),
    Ask(Reply<Vec<u32>>),
    Ignore(Reply<Vec<u32>>),
    Panic,
    Fail,
    Done,
    Later(Duration, u32),
    Blocking(bool),
    Blocked(Result<u32, Panicked>),
}

struct Notes {
    capacity: usize,
    seen: Rc<RefCell<Vec<u32>>>,
    kept: Vec<Reply<Vec<u32>>>,
}

impl Component for Notes {
    type Event = Event;

    fn name(&self) -> String {
        "notes".to_owned()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn handle(&mut self, event: Event, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        match event {
            Event::Note(number) => self.seen.borrow_mut().push(number),
            Event::Ask(reply) => reply.send(self.seen.borrow().clone()),
            Event::Ignore(reply) => self.kept.push(reply),
            Event::Panic => panic!("a bug"),
            Event::Fail => return Err(ExitReason::failed(hurtig_core::Error::internal("no more"))),
            Event::Done => return Err(ExitReason::Done),
            Event::Later(delay, number) => {
                cx.after(delay, Event::Note(number));
            }
            Event::Blocking(panics) => cx.blocking(
                move || {
                    assert!(!panics, "blocked badly");
                    42
                },
                Event::Blocked,
            ),
            Event::Blocked(result) => self.seen.borrow_mut().push(result.unwrap_or(99)),
        }
        Ok(())
    }
}

struct Bench {
    pool: Option<BlockingPool>,
    notes: Mailbox<Event>,
    probe: std::sync::Arc<hurtig_kit::Probe>,
    seen: Rc<RefCell<Vec<u32>>>,
    kill: KillSwitch,
    clock: std::sync::Arc<ManualClock>,
}

fn start(capacity: usize) -> Bench {
    let (kill, clock, seen) = (
        KillSwitch::new(),
        ManualClock::new(),
        Rc::new(RefCell::new(Vec::new())),
    );
    let pool = BlockingPool::new().unwrap();
    let env = ActorEnv {
        clock: clock.clone(),
        kill: kill.clone(),
        blocking: pool.threads(),
    };
    let (notes, probe) = Shell::start(
        Notes {
            capacity,
            seen: seen.clone(),
            kept: Vec::new(),
        },
        env,
    );
    Bench {
        pool: Some(pool),
        notes,
        probe,
        seen,
        kill,
        clock,
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Asynchronous code must not wait for it.
        self.pool
            .take()
            .into_iter()
            .for_each(|pool| pool.close(Duration::ZERO));
    }
}

/// Runs a test as an actor system of its own.
fn system<F: Future>(test: impl FnOnce() -> F) {
    let test = async { actix_rt::time::timeout(DEADLINE, test()).await };
    System::new().block_on(test).unwrap();
}

async fn ask(bench: &Bench) -> Result<Vec<u32>, AskError> {
    bench.notes.ask(Event::Ask, DEADLINE).await
}

#[test]
fn a_new_actor_has_its_own_capacity_at_once() {
    system(|| async {
        let (large, small) = (start(500), start(2));
        let taken = |bench: &Bench| {
            (0..600)
                .take_while(|number| bench.notes.tell(Event::Note(*number)).is_ok())
                .count()
        };
        // actix grants each sender one more.
        assert!((500..=501).contains(&taken(&large)) && (2..=3).contains(&taken(&small)));
    });
}

#[test]
fn a_panic_ends_the_actor_and_throws_the_switch() {
    system(|| async {
        let bench = start(16);
        bench.notes.tell(Event::Panic).unwrap();
        let fault = bench.kill.killed().await;
        assert_eq!(fault.to_string(), "actor 'notes' panicked: a bug");
        assert!(matches!(
            bench.probe.state(&*bench.clock),
            ActorState::Ended(ExitReason::Panicked(_))
        ));
        assert!(matches!(
            ask(&bench).await,
            Err(AskError::Refused(TellError::Closed) | AskError::NoReply)
        ));
    });
}

#[test]
fn events_behind_a_panic_are_never_handled() {
    system(|| async {
        let bench = start(16);
        bench.notes.tell(Event::Panic).unwrap();
        bench.notes.tell(Event::Note(1)).unwrap();
        bench.kill.killed().await;
        assert!(ask(&bench).await.is_err());
        assert!(bench.seen.borrow().is_empty());
    });
}

#[test]
fn a_failure_is_a_fault_and_being_done_is_none() {
    system(|| async {
        let bench = start(16);
        bench.notes.tell(Event::Fail).unwrap();
        assert_eq!(
            bench.kill.killed().await.to_string(),
            "actor 'notes' failed: no more"
        );
        let bench = start(16);
        bench.notes.tell(Event::Done).unwrap();
        assert!(ask(&bench).await.is_err());
        assert!(!bench.kill.is_dead());
    });
}

#[test]
fn a_thrown_switch_ends_every_actor_below() {
    system(|| async {
        let (one, two) = (start(16), start(16));
        one.notes.tell(Event::Panic).unwrap();
        two.kill.kill(one.kill.killed().await);
        while !matches!(
            two.probe.state(&*two.clock),
            ActorState::Ended(ExitReason::Killed)
        ) {
            actix_rt::task::yield_now().await;
        }
    });
}

#[test]
fn a_full_mailbox_refuses_and_recovers() {
    system(|| async {
        let bench = start(4);
        assert!(ask(&bench).await.is_ok(), "it runs, with its capacity");
        let told = (0..100).map(|number| bench.notes.tell(Event::Note(number)));
        let accepted: Vec<u32> = told
            .enumerate()
            .filter(|(_, told)| told.is_ok())
            .map(|(number, _)| number as u32)
            .collect();
        assert!(accepted.len() < 100);
        let refused = bench.notes.tell(Event::Note(0));
        assert_eq!(refused, Err(TellError::Overloaded));
        while bench.seen.borrow().len() < accepted.len() {
            actix_rt::task::yield_now().await;
        }
        assert_eq!(ask(&bench).await.unwrap(), accepted);
    });
}

#[test]
fn an_outbox_loses_nothing_and_keeps_the_order() {
    system(|| async {
        let bench = start(2);
        let outbox = Outbox::new("test", bench.notes.clone(), 10_000, bench.kill.clone());
        (0..1_000).for_each(|number| outbox.send(Event::Note(number)));
        assert!(outbox.waiting() > 900);
        // Room appears while others still wait: what comes now must not overtake them.
        for number in 1_000..2_000 {
            actix_rt::task::yield_now().await;
            outbox.send(Event::Note(number));
        }
        drop(outbox);
        while bench.seen.borrow().len() < 2_000 {
            actix_rt::task::yield_now().await;
        }
        assert!(bench.seen.borrow().iter().copied().eq(0..2_000));
        assert!(!bench.kill.is_dead());
    });
}

#[test]
fn an_outbox_beyond_its_bound_is_a_fault() {
    system(|| async {
        let bench = start(1);
        let outbox = Outbox::new("test", bench.notes.clone(), 10, bench.kill.clone());
        (0..100).for_each(|number| outbox.send(Event::Note(number)));
        let fault = bench.kill.killed().await;
        assert!(
            fault.to_string().contains("more than 10 messages wait"),
            "{fault}"
        );
    });
}

#[test]
fn asking_has_a_deadline_and_hears_of_a_lost_reply() {
    system(|| async {
        let bench = start(16);
        let short = Duration::from_millis(5);
        assert_eq!(
            bench.notes.ask(Event::Ignore, short).await,
            Err(AskError::Timeout(short))
        );
        let (reply, answer) = Reply::new();
        bench.notes.tell(Event::Ignore(reply)).unwrap();
        bench.notes.tell(Event::Done).unwrap();
        assert!(answer.await.is_err());
    });
}

#[test]
fn timers_and_blocking_work_come_back_as_events() {
    system(|| async {
        let bench = start(16);
        bench
            .notes
            .tell(Event::Later(Duration::from_millis(5), 7))
            .unwrap();
        while bench.seen.borrow().is_empty() {
            assert_ne!(ask(&bench).await, Err(AskError::NoReply));
        }
        for panics in [false, true] {
            bench.notes.tell(Event::Blocking(panics)).unwrap();
            let before = bench.seen.borrow().len();
            while bench.seen.borrow().len() == before {
                actix_rt::task::yield_now().await;
            }
        }
        assert_eq!(ask(&bench).await.unwrap(), [7, 42, 99]);
        assert!(bench.probe.handled() >= 6);
    });
}

#[test]
fn guards_turn_panics_into_values() {
    assert_eq!(guard(|| 1), Ok(1));
    assert_eq!(
        guard(|| panic!("number {}", 2)),
        Err::<(), _>(Panicked {
            message: "number 2".to_owned()
        })
    );
    system(|| async {
        let failed: Result<(), Panicked> = guarded(async { panic!("later") }).await;
        assert_eq!(failed.unwrap_err().to_string(), "later");
    });
}
