//! Wakes tasks in time. The runtime's timers count whole milliseconds and round up, which would be most of a record's
//! delay; a timer of the operating system is late by some hundredths of one.
//!
//! All tasks of an arbiter share one such timer, so that no task costs a descriptor. Elsewhere than on Linux, and where
//! there is no descriptor left, the runtime's timers do.

use hurtig_core::time::Time;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// An alarm goes off no sooner than this after it went off before: a source with a record each microsecond would
/// otherwise be woken for each, and spend its time on waking.
const LEAST_PAUSE: Duration = Duration::from_micros(250);

/// A task's alarm. It goes off once for each time that it is set to.
#[derive(Default)]
pub(crate) struct Alarm {
    set: Option<(Time, Set)>,
    /// When it last went off.
    rang: Option<Time>,
}

enum Set {
    #[cfg(target_os = "linux")]
    Precise(precise::Ticket),
    Coarse(Pin<Box<Sleep>>),
}

impl Alarm {
    /// Ready once `at` has passed since `now`; until then the task is woken then. Setting it to another time replaces
    /// the one before.
    pub(crate) fn poll(&mut self, at: Time, now: Time, task: &mut Context<'_>) -> Poll<()> {
        if self.set.as_ref().is_none_or(|(set, _)| *set != at) {
            // It went off, and the task did something before it looked at its alarm, or somebody else woke it then.
            if self.set.as_ref().is_some_and(|(set, _)| *set <= now) {
                self.rang = Some(now);
            }
            let earliest = self.rang.map_or(at, |rang| rang.after(LEAST_PAUSE));
            self.set = Some((at, Set::new(at.max(earliest), now)));
        }
        let Some((_, set)) = &mut self.set else {
            return Poll::Pending;
        };
        let polled = match set {
            #[cfg(target_os = "linux")]
            Set::Precise(ticket) => ticket.poll(task),
            Set::Coarse(sleep) => sleep.as_mut().poll(task),
        };
        if polled.is_ready() {
            self.set = None;
            self.rang = Some(now);
        }
        polled
    }

    /// Forgets the time that it was set to.
    pub(crate) fn clear(&mut self) {
        self.set = None;
    }
}

impl Set {
    fn new(at: Time, now: Time) -> Self {
        #[cfg(target_os = "linux")]
        if let Ok(ticket) = precise::Ticket::new(at.since(now)) {
            return Self::Precise(ticket);
        }
        Self::Coarse(Box::pin(tokio::time::sleep(at.since(now))))
    }
}

#[cfg(target_os = "linux")]
mod precise {
    use rustix::fd::OwnedFd;
    use rustix::io;
    use rustix::time::{
        ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
        timerfd_create, timerfd_settime,
    };
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::rc::{Rc, Weak};
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;
    use tokio::io::unix::AsyncFd;

    thread_local! {
        static CLOCKWORK: RefCell<Clockwork> = RefCell::default();
    }

    /// The operating system's timer.
    type Timer = AsyncFd<OwnedFd>;

    /// The timer of an arbiter and who waits for it.
    #[derive(Default)]
    struct Clockwork {
        /// Belongs to the future that waits for it, and is gone with the arbiter's runtime.
        timer: Weak<Timer>,
        /// By time and number; without a waker until it is polled.
        waiting: BTreeMap<(Duration, u64), Option<Waker>>,
        tickets: u64,
        /// What the timer is set to.
        armed: Option<Duration>,
    }

    /// A place in the queue for a time.
    pub(super) struct Ticket {
        key: (Duration, u64),
    }

    impl Ticket {
        /// A place in the queue, `delay` from now.
        pub(super) fn new(delay: Duration) -> io::Result<Self> {
            CLOCKWORK.with_borrow_mut(|clockwork| {
                let timer = clockwork.started()?;
                clockwork.tickets += 1;
                let ticket = Self {
                    key: (monotonic() + delay, clockwork.tickets),
                };
                clockwork.waiting.insert(ticket.key, None);
                clockwork.arm(&timer).inspect_err(|_| {
                    clockwork.waiting.remove(&ticket.key);
                })?;
                Ok(ticket)
            })
        }

        /// Ready when the timer has taken it out of the queue.
        pub(super) fn poll(&self, task: &Context<'_>) -> Poll<()> {
            CLOCKWORK.with_borrow_mut(|clockwork| match clockwork.waiting.get_mut(&self.key) {
                Some(waker) => {
                    *waker = Some(task.waker().clone());
                    Poll::Pending
                }
                None => Poll::Ready(()),
            })
        }
    }

    impl Drop for Ticket {
        fn drop(&mut self) {
            // At the end of a thread the queue may be gone already. The timer may go off for nobody.
            let _ = CLOCKWORK.try_with(|clockwork| clockwork.borrow_mut().waiting.remove(&self.key));
        }
    }

    impl Clockwork {
        /// The timer, and somebody who waits for it.
        fn started(&mut self) -> io::Result<Rc<Timer>> {
            if let Some(timer) = self.timer.upgrade() {
                return Ok(timer);
            }
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            #[allow(
                deprecated,
                reason = "unsound for what lies about its descriptor; the other way is unsafe"
            )]
            let timer = Rc::new(AsyncFd::new(descriptor).map_err(|_| io::Errno::BADF)?);
            self.timer = Rc::downgrade(&timer);
            self.armed = None;
            tokio::task::spawn_local(ring(Rc::clone(&timer)));
            Ok(timer)
        }

        /// Sets the timer to the first time that somebody waits for.
        fn arm(&mut self, timer: &Timer) -> io::Result<()> {
            let first = self.waiting.first_key_value().map(|(&(at, _), _)| at);
            let Some(at) = first.filter(|first| self.armed.is_none_or(|armed| *first < armed)) else {
                return Ok(());
            };
            let spec = Itimerspec {
                it_interval: timespec(Duration::ZERO),
                it_value: timespec(at),
            };
            timerfd_settime(timer.get_ref(), TimerfdTimerFlags::ABSTIME, &spec)?;
            self.armed = Some(at);
            Ok(())
        }

        /// Takes out whose time has come.
        fn due(&mut self, now: Duration) -> Vec<Waker> {
            let later = self.waiting.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut self.waiting, later);
            due.into_values().flatten().collect()
        }
    }

    /// Wakes tasks whenever the timer goes off.
    async fn ring(timer: Rc<Timer>) {
        while let Ok(mut ready) = timer.readable().await {
            let mut count = [0; 8];
            // How often it went off does not matter, nor that somebody set it anew in between.
            let _ = io::read(timer.get_ref(), &mut count);
            ready.clear_ready();
            let due = CLOCKWORK.with_borrow_mut(|clockwork| {
                clockwork.armed = None;
                let due = clockwork.due(monotonic());
                if let Err(error) = clockwork.arm(&timer) {
                    tracing::error!(%error, "the timer of an arbiter cannot be set");
                }
                due
            });
            due.into_iter().for_each(Waker::wake);
        }
    }

    fn monotonic() -> Duration {
        let now = clock_gettime(ClockId::Monotonic);
        // The clock counts from when the machine was started.
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
    }

    fn timespec(time: Duration) -> Timespec {
        Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_rt::System;
    use hurtig_core::time::{Clock, SystemClock};
    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::time::Duration;

    /// Waits for `at` as a task would.
    async fn until(clock: &SystemClock, at: Time) {
        let mut alarm = Alarm::default();
        poll_fn(|task| match clock.now() >= at {
            true => Poll::Ready(()),
            false => alarm.poll(at, clock.now(), task),
        })
        .await;
    }

    #[test]
    fn alarms_go_off_in_the_order_of_their_times_and_never_early() {
        // One thread may have several runtimes, one after the other.
        for _ in 0..2 {
            System::new().block_on(async {
                let clock = SystemClock::new();
                let order = Rc::new(RefCell::new(Vec::new()));
                let start = clock.now();
                let waiters: Vec<_> = [7, 2, 9, 4]
                    .into_iter()
                    .map(|ms: u64| {
                        let (clock, order) = (clock.clone(), order.clone());
                        actix_rt::spawn(async move {
                            let at = start.after(Duration::from_millis(ms));
                            until(&clock, at).await;
                            assert!(clock.now() >= at, "early");
                            order.borrow_mut().push(ms);
                        })
                    })
                    .collect();
                for waiter in waiters {
                    waiter.await.unwrap();
                }
                assert_eq!(*order.borrow(), [2, 4, 7, 9]);
            });
        }
    }

    #[test]
    fn an_alarm_is_set_again_and_forgotten() {
        System::new().block_on(async {
            let clock = SystemClock::new();
            let mut alarm = Alarm::default();
            let far = clock.now().after(Duration::from_secs(3_600));
            let polled = poll_fn(|task| Poll::Ready(alarm.poll(far, clock.now(), task))).await;
            assert!(polled.is_pending());
            let near = clock.now().after(Duration::from_millis(2));
            poll_fn(|task| alarm.poll(near, clock.now(), task)).await;
            assert!(clock.now() >= near);
            alarm.clear();
            assert!(alarm.set.is_none());
        });
    }

    #[test]
    fn an_alarm_does_not_go_off_for_each_of_many_times_in_a_row() {
        System::new().block_on(async {
            let clock = SystemClock::new();
            let (start, mut alarm, mut rang) = (clock.now(), Alarm::default(), 0_u128);
            while clock.now().since(start) < Duration::from_millis(20) {
                let at = clock.now().after(Duration::from_micros(1));
                poll_fn(|task| alarm.poll(at, clock.now(), task)).await;
                rang += 1;
            }
            let most = clock.now().since(start).as_micros() / LEAST_PAUSE.as_micros() + 1;
            assert!((1..=most).contains(&rang), "{rang} times, {most} at most");
        });
    }

    #[test]
    fn most_alarms_are_late_by_less_than_the_runtime_counts() {
        System::new().block_on(async {
            let clock = SystemClock::new();
            let mut late = Vec::new();
            for _ in 0..60 {
                let at = clock.now().after(Duration::from_micros(300));
                until(&clock, at).await;
                late.push(clock.now().since(at));
            }
            late.sort_unstable();
            // The runtime's own timers take 0.7 ms at the least. The best quarter, as the machine may be busy.
            assert!(late[15] < Duration::from_micros(500), "{late:?}");
        });
    }
}
