//! What instances measure of themselves, as far as it has been asked.
//!
//! Invariants: only what was asked for is known; rates come from two answers, never from one; what
//! nobody asked for during [`KEPT`] is forgotten, so that memory stays bounded. No clock: the
//! moments are those of the state.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skynet::instance::{Instance, InstanceId};
use skynet::query::rows::StatsTable;
use skynet::stats::InstanceStats;
use tokio::time::Instant;

use crate::tui::effect::Ticket;

/// How long an answer is kept when nobody asks again.
const KEPT: Duration = Duration::from_mins(2);

/// How many samples of the past are kept.
pub const SAMPLES: usize = 60;

/// How often measurements are asked while they are shown.
pub const PERIOD: Duration = Duration::from_secs(1);

/// How soon they are asked when other rows come into sight.
pub const SOON: Duration = Duration::from_millis(150);

/// How long an answer is waited for before it is asked again.
pub const OVERDUE: Duration = Duration::from_secs(3);

/// One look at an instance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Mean response time since the start, in microseconds.
    pub avg_us: i64,
    /// Requests per second since the sample before, when there was one.
    pub rps: Option<f64>,
    /// Connections.
    pub clients: i64,
}

/// What is known of one instance.
#[derive(Debug, Clone)]
pub struct Measure {
    /// Its last answer.
    pub stats: InstanceStats,
    /// When its last request came, when one came.
    pub last: Option<Timestamp>,
    /// When it answered.
    pub at: Instant,
    /// Requests per second between its last two answers.
    pub rps: Option<f64>,
    /// Its past, oldest first.
    pub history: VecDeque<Sample>,
}

/// All that is known, and what has been asked.
#[derive(Debug, Clone)]
pub struct Measures {
    known: HashMap<InstanceId, Measure>,
    /// Who was in the last question, so that a row that never answers is not hurried for ever.
    tried: HashSet<InstanceId>,
    asked: Option<(Ticket, Instant)>,
    next: Instant,
}

impl Measures {
    /// Nothing is known; the first question may be asked at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            known: HashMap::new(),
            tried: HashSet::new(),
            asked: None,
            next: now,
        }
    }

    /// What is known of an instance.
    pub fn of(&self, id: InstanceId) -> Option<&Measure> {
        self.known.get(&id)
    }

    /// All answers and rates, in the shape in which queries take them.
    pub fn tables(&self) -> (StatsTable, HashMap<InstanceId, f64>) {
        let stats = self
            .known
            .iter()
            .map(|(id, measure)| (*id, measure.stats.clone()));
        let rates = self
            .known
            .iter()
            .filter_map(|(id, measure)| Some((*id, measure.rps?)));
        (stats.collect(), rates.collect())
    }

    /// When the next question is due, if anything needs one.
    pub fn due(&self) -> Instant {
        match self.asked {
            Some((_, at)) => (at + OVERDUE).max(self.next),
            None => self.next,
        }
    }

    /// Notes that a question was asked, about these instances.
    pub fn ask(&mut self, ticket: Ticket, instances: &[Arc<Instance>], now: Instant) {
        self.tried = instances.iter().map(|instance| instance.id()).collect();
        // A question about nobody has no answer to wait for.
        self.asked = (!instances.is_empty()).then_some((ticket, now));
        self.next = now + PERIOD;
    }

    /// Whether the instance could answer and was not in the last question.
    pub fn is_new(&self, instance: &Instance) -> bool {
        instance.address.is_some()
            && !self.tried.contains(&instance.id())
            && !self.known.contains_key(&instance.id())
    }

    /// Whether nobody was asked last.
    pub fn is_idle(&self) -> bool {
        self.tried.is_empty()
    }

    /// Asks sooner, because something came into sight of which nothing is known.
    pub fn hurry(&mut self, now: Instant) {
        self.next = self.next.min(now + SOON);
    }

    /// Takes an answer; `false` when it is not the one that is waited for.
    pub fn take(&mut self, ticket: Ticket, answer: StatsTable, now: Instant) -> bool {
        if self.asked.is_none_or(|(asked, _)| asked != ticket) {
            return false;
        }
        self.asked = None;
        for (id, stats) in answer {
            let before = self.known.remove(&id);
            self.known.insert(id, Measure::after(before, stats, now));
        }
        self.known
            .retain(|_, measure| now.saturating_duration_since(measure.at) < KEPT);
        true
    }
}

impl Measure {
    fn after(before: Option<Self>, stats: InstanceStats, now: Instant) -> Self {
        let rps = before.as_ref().and_then(|before| {
            let seconds = now.saturating_duration_since(before.at).as_secs_f64();
            let served = stats.requests.checked_sub(before.stats.requests)?;
            // A restart under the same id counts from zero again; then the rate is not known.
            let restarted = stats.started != before.stats.started || served < 0;
            (seconds > 0.0 && !restarted).then(|| per_second(served, seconds))
        });
        let mut history = before.map(|before| before.history).unwrap_or_default();
        if history.len() >= SAMPLES {
            history.pop_front();
        }
        history.push_back(Sample {
            avg_us: stats.avg_us,
            rps,
            clients: stats.clients,
        });
        Self {
            last: stats.last.parse().ok(),
            stats,
            at: now,
            rps,
            history,
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "more than 2^52 requests between two answers do not happen"
)]
fn per_second(served: i64, seconds: f64) -> f64 {
    served as f64 / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(requests: i64) -> StatsTable {
        let stats = InstanceStats {
            requests,
            ..InstanceStats::default()
        };
        [(InstanceId::from_u128(1), stats)].into_iter().collect()
    }

    fn asked() -> [Arc<Instance>; 1] {
        [Arc::new(crate::tui::tests::cluster::instance(1))]
    }

    #[test]
    fn rates_come_from_two_answers() {
        let now = Instant::now();
        let mut measures = Measures::new(now);
        let id = InstanceId::from_u128(1);
        measures.ask(Ticket(1), &asked(), now);
        assert!(measures.take(Ticket(1), answer(100), now));
        assert_eq!(measures.of(id).unwrap().rps, None);
        let later = now + Duration::from_secs(2);
        measures.ask(Ticket(2), &asked(), later);
        assert!(
            !measures.take(Ticket(1), answer(400), later),
            "a late answer is dropped"
        );
        assert!(measures.take(Ticket(2), answer(300), later));
        assert_eq!(measures.of(id).unwrap().rps, Some(100.0));
        let restarted = later + Duration::from_secs(1);
        measures.ask(Ticket(3), &asked(), restarted);
        measures.take(Ticket(3), answer(5), restarted);
        assert_eq!(measures.of(id).unwrap().rps, None);
    }

    #[test]
    fn what_is_not_asked_for_is_forgotten() {
        let now = Instant::now();
        let mut measures = Measures::new(now);
        measures.ask(Ticket(1), &asked(), now);
        measures.take(Ticket(1), answer(1), now);
        let later = now + KEPT;
        measures.ask(Ticket(2), &asked(), later);
        measures.take(Ticket(2), StatsTable::default(), later);
        assert!(measures.of(InstanceId::from_u128(1)).is_none());
    }

    #[test]
    fn questions_are_a_second_apart_and_sooner_for_new_rows() {
        let now = Instant::now();
        let mut measures = Measures::new(now);
        assert_eq!(measures.due(), now);
        measures.ask(Ticket(1), &asked(), now);
        assert_eq!(measures.due(), now + OVERDUE);
        measures.take(Ticket(1), StatsTable::default(), now);
        assert_eq!(measures.due(), now + PERIOD);
        measures.hurry(now);
        assert_eq!(measures.due(), now + SOON);
    }
}
