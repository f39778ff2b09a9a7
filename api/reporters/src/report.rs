//! Reporters: each tells every so often what its cluster measures.

use crate::collect::{Collector, Snapshot};
use crate::lines::{Line, lines};
use crate::settings::{Kind, Reporter, Reporting};
use futures_util::future::join_all;
use hurtig_cluster::ClusterError;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::time::MissedTickBehavior;

/// Bytes of a datagram: what passes everywhere in one piece.
const DATAGRAM: usize = 1_400;
/// Datagrams after which others have their turn, the receiver among them.
const BURST: usize = 32;
/// Lines of a report that are written to the log.
const MAX_LOGGED: usize = 10_000;

impl Reporting {
    /// Runs the reporters for as long as it is waited for.
    pub async fn run(self, collector: Arc<Collector>) {
        let all = self.reporters.iter().map(|reporter| reporter.run(&collector));
        join_all(all).await;
        // There are none: nothing ends.
        std::future::pending::<()>().await;
    }
}

impl Reporter {
    async fn run(&self, collector: &Collector) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first one is at once, when nothing is there.
        ticks.tick().await;
        let mut failing = false;
        loop {
            ticks.tick().await;
            match collector.collect().await {
                Ok(snapshot) => {
                    let told = self.tell(&snapshot).await;
                    self.note(&mut failing, told.err().map(|error| error.to_string()));
                }
                // The one that leads tells.
                Err(ClusterError::NotLeading(_)) => {}
                Err(error) => self.note(&mut failing, Some(error.to_string())),
            }
        }
    }

    /// Logs that it fails, and that it does no more, once each.
    fn note(&self, failing: &mut bool, error: Option<String>) {
        let name = self.name.as_str();
        match error {
            Some(error) if !*failing => tracing::warn!(name, error, "a reporter cannot tell its metrics"),
            None if *failing => tracing::info!(name, "a reporter tells its metrics again"),
            _ => return,
        }
        *failing = !*failing;
    }

    async fn tell(&self, snapshot: &Snapshot) -> io::Result<()> {
        let wanted = snapshot.metrics.iter().filter(|metric| self.filter.lets(metric));
        let lines = wanted.flat_map(|metric| lines(metric, &self.naming));
        match &self.kind {
            Kind::Log => {
                let report = logged(lines);
                tracing::info!("{report}");
                Ok(())
            }
            Kind::StatsD { host, port } => send(&datagrams(lines), (host, *port)).await,
        }
    }
}

/// One text of a report, a line a number.
fn logged(lines: impl Iterator<Item = Line>) -> String {
    let (mut text, mut more) = ("metrics".to_owned(), 0_u64);
    for (at, line) in lines.enumerate() {
        let Some(value) = line.value.text() else { continue };
        if at < MAX_LOGGED {
            // Writing into a text cannot fail.
            let _ = write!(text, "\n{}: {value}", line.name);
        } else {
            more += 1;
        }
    }
    if more > 0 {
        let _ = write!(text, "\nand {more} more, which do not fit into the log");
    }
    text
}

/// StatsD's form, as Flink fills it: each number is a gauge. What has a sign would be added to the gauge, so that it is first
/// set to 0.
fn datagrams(lines: impl Iterator<Item = Line>) -> Vec<String> {
    let mut all = vec![String::new()];
    for line in lines {
        let Some(value) = line.value.text() else { continue };
        let name = line.name.replace(['|', '@'], "_");
        let text = match line.value.is_negative() {
            true => format!("{name}:0|g\n{name}:{value}|g"),
            false => format!("{name}:{value}|g"),
        };
        match all.last_mut() {
            Some(last) if last.is_empty() => *last = text,
            Some(last) if last.len() + text.len() < DATAGRAM => {
                last.push('\n');
                last.push_str(&text);
            }
            _ => all.push(text),
        }
    }
    all.retain(|datagram| !datagram.is_empty());
    all
}

/// Nobody confirms datagrams: what can be known is that there is no such host, or that the system does not send.
async fn send(datagrams: &[String], to: (&str, u16)) -> io::Result<()> {
    let address = tokio::net::lookup_host(to).await?.next();
    let address =
        address.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no host {}", to.0)))?;
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    for (at, datagram) in datagrams.iter().enumerate() {
        // Not connected: a server that was away for a moment is no error of the next datagram.
        socket.send_to(datagram.as_bytes(), address).await?;
        if at % BURST == BURST - 1 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Value;

    fn line(name: &str, value: Value) -> Line {
        Line {
            name: name.to_owned(),
            value,
        }
    }

    #[test]
    fn datagrams_hold_whole_lines_and_are_not_too_long() {
        let all = (0..500).map(|at| line(&format!("host.name-{at}"), Value::Count(at)));
        let datagrams = datagrams(all);
        assert!(datagrams.len() > 5 && datagrams.iter().all(|one| one.len() <= DATAGRAM));
        let lines: Vec<&str> = datagrams.iter().flat_map(|one| one.split('\n')).collect();
        assert_eq!(lines.len(), 500);
        for (at, line) in lines.iter().enumerate() {
            assert_eq!(*line, format!("host.name-{at}:{at}|g"));
        }
    }

    #[test]
    fn what_has_a_sign_is_set_and_not_added() {
        let all = [
            line("a", Value::Whole(-5)),
            line("b|c@d", Value::Fraction(0.5)),
            line("e", Value::Fraction(f64::NAN)),
        ];
        assert_eq!(datagrams(all.into_iter()), ["a:0|g\na:-5|g\nb_c_d:0.5|g"]);
        assert!(datagrams(std::iter::empty()).is_empty());
    }

    #[test]
    fn a_log_says_what_it_leaves_out() {
        let all = (0..=MAX_LOGGED as u64).map(|at| line("n", Value::Count(at)));
        let text = logged(all);
        assert!(text.starts_with("metrics\nn: 0\nn: 1\n"), "{}", &text[..40]);
        assert!(text.ends_with("\nand 1 more, which do not fit into the log"));
    }

    #[tokio::test]
    async fn a_server_hears_what_is_sent() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        send(&["a:1|g".to_owned()], ("127.0.0.1", port)).await.unwrap();
        let mut heard = [0; 100];
        let (length, _) = server.recv_from(&mut heard).await.unwrap();
        assert_eq!(&heard[..length], b"a:1|g");
    }
}
