//! Restart strategies: whether a failure is forgiven, and after which delay.

use crate::config::RestartStrategyConfig;
use hurtig_core::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// A job's restart strategy with what it remembers.
#[derive(Clone, Debug)]
pub struct RestartStrategy {
    config: RestartStrategyConfig,
    restarts: u32,
    /// When the last failure that `exponential-delay` has forgiven leads to a restart.
    next_restart: Option<Time>,
    recent: VecDeque<Time>,
    random: u64,
}

impl RestartStrategy {
    /// A strategy that has seen no failure. `seed` decides the jitter.
    pub fn new(config: RestartStrategyConfig, seed: u64) -> Self {
        Self {
            config,
            restarts: 0,
            next_restart: None,
            recent: VecDeque::new(),
            random: seed,
        }
    }

    /// Whether a failure now belongs to the restart that an earlier one leads to, and is no attempt of its own:
    /// under `exponential-delay`, until that restart.
    pub fn is_same_attempt(&self, now: Time) -> bool {
        self.next_restart.is_some_and(|restart| now <= restart)
    }

    /// A failure happened: the delay until the restart, or `None` when the job has to fail.
    pub fn on_failure(&mut self, now: Time) -> Option<Duration> {
        match self.config {
            RestartStrategyConfig::None => None,
            RestartStrategyConfig::FixedDelay { attempts, delay } => self.count(attempts).then_some(delay),
            RestartStrategyConfig::ExponentialDelay { .. } => self.exponential(now),
            RestartStrategyConfig::FailureRate {
                max_failures,
                interval,
                delay,
            } => {
                self.recent.retain(|failure| now.since(*failure) < interval);
                let allowed = self.recent.len() < max_failures as usize;
                self.recent.push_back(now);
                allowed.then_some(delay)
            }
        }
    }

    fn count(&mut self, limit: Option<u32>) -> bool {
        self.restarts = self.restarts.saturating_add(1);
        limit.is_none_or(|limit| self.restarts <= limit)
    }

    /// `initial`, growing with each restart up to `max`, and never less than `initial`. Failures before
    /// the restart that an earlier one led to belong to that one.
    fn exponential(&mut self, now: Time) -> Option<Duration> {
        let RestartStrategyConfig::ExponentialDelay {
            initial,
            max,
            multiplier,
            reset_after,
            jitter,
            attempts,
        } = self.config
        else {
            return None;
        };
        if let Some(restart) = self.next_restart {
            if self.is_same_attempt(now) {
                return Some(restart.since(now));
            }
            if now.since(restart) >= reset_after {
                self.restarts = 0;
            }
        }
        let growths = i32::try_from(self.restarts).unwrap_or(i32::MAX);
        if !self.count(attempts) {
            return None;
        }
        let grown = (initial.as_secs_f64() * multiplier.powi(growths)).min(max.as_secs_f64());
        let jittered = grown * (1.0 + jitter * self.swing());
        let delay = Duration::try_from_secs_f64(jittered).unwrap_or(max);
        let delay = delay.min(max).max(initial);
        self.next_restart = Some(now.after(delay));
        Some(delay)
    }

    /// A number from -1 to 1: SplitMix64.
    fn swing(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        #[allow(clippy::cast_precision_loss, reason = "53 bits are kept")]
        let unit = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        unit * 2.0 - 1.0
    }
}
