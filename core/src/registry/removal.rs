//! The guard against mass removal: many instances of a service that vanish at once are more likely
//! a fault of the registry than the death of them all.
//!
//! When more than half of a service's instances, and of three at least, vanish within ten seconds
//! without having said `leaving` or been marked `dead`, an alarm stands, and none of them is given
//! up while it does. It ends when they are back or marked, when as many others stand in their
//! place, on an operator's word, or after ten minutes in which the registry was heard: by then
//! whoever lives has registered again. Pure, time is data.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::snapshot::Alarm;
use crate::instance::InstanceId;

/// What vanishes within so long vanishes at once.
const WINDOW: Duration = Duration::from_secs(10);
/// Of fewer, half may well die together.
const LEAST: usize = 3;

/// What vanished of each service, and which of it is held.
#[derive(Debug, Default)]
pub(super) struct RemovalGuard {
    services: HashMap<Arc<str>, Service>,
    /// The services whose numbers changed since they were last weighed.
    touched: HashSet<Arc<str>>,
}

#[derive(Debug, Default)]
struct Service {
    vanished: HashMap<InstanceId, Instant>,
    alarm: Option<Standing>,
}

/// An alarm that stands.
#[derive(Debug, Clone, Copy)]
struct Standing {
    since: Instant,
    /// When it ends by itself.
    until: Instant,
    /// How many instances there were before.
    of: usize,
}

impl RemovalGuard {
    /// An instance vanished without a word.
    pub(super) fn vanished(&mut self, service: &Arc<str>, id: InstanceId, now: Instant) {
        let of_service = self.services.entry(Arc::clone(service)).or_default();
        of_service.vanished.insert(id, now);
        self.touched.insert(Arc::clone(service));
    }

    /// An instance stands, is marked, or is given up: it is missed no more.
    pub(super) fn accounted(&mut self, service: &Arc<str>, id: InstanceId) {
        if let Some(of_service) = self.services.get_mut(service) {
            of_service.vanished.remove(&id);
            // Also a newcomer counts: it may stand in the place of one that is held.
            self.touched.insert(Arc::clone(service));
        }
    }

    /// Weighs what has happened since the last time. `standing` tells how many instances of a
    /// service are there and not suspect. Those that are returned are held no more.
    pub(super) fn weigh(
        &mut self,
        standing: impl Fn(&str) -> usize,
        now: Instant,
    ) -> Vec<InstanceId> {
        let mut released = Vec::new();
        for service in std::mem::take(&mut self.touched) {
            let Some(of_service) = self.services.get_mut(&service) else {
                continue;
            };
            let stand = standing(&service);
            if let Some(alarm) = of_service.alarm {
                if of_service.vanished.is_empty() || stand >= alarm.of {
                    tracing::info!(%service, "the instances that vanished are back or replaced");
                    of_service.alarm = None;
                    released.extend(of_service.vanished.keys());
                }
            } else if let Some(alarm) = of_service.alarm_of(stand, now) {
                let vanished = of_service.vanished.len();
                tracing::warn!(%service, vanished, of = alarm.of, "more than half of a service vanished at once, it is held");
                of_service.alarm = Some(alarm);
            }
            if of_service.vanished.is_empty() {
                self.services.remove(&service);
            }
        }
        released
    }

    /// An operator knows of it: every alarm ends, and nothing is held any more.
    pub(super) fn dismiss(&mut self) -> Vec<InstanceId> {
        self.end(|_| true)
    }

    /// Ends the alarms that have stood for long enough. Those that are returned are held no more.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<InstanceId> {
        self.end(|alarm| alarm.until <= now)
    }

    /// When an alarm ends by itself.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let alarms = self.services.values().filter_map(|one| one.alarm);
        alarms.map(|alarm| alarm.until).min()
    }

    /// The registry was away, and nobody could register: alarms have their whole time again.
    pub(super) fn prolong(&mut self, now: Instant) {
        for of_service in self.services.values_mut() {
            if let Some(alarm) = &mut of_service.alarm {
                alarm.until = now + Alarm::HOLD;
            }
        }
    }

    fn end(&mut self, is_over: impl Fn(Standing) -> bool) -> Vec<InstanceId> {
        let mut released = Vec::new();
        for of_service in self.services.values_mut() {
            if of_service.alarm.take_if(|alarm| is_over(*alarm)).is_some() {
                released.extend(of_service.vanished.keys());
                // Together they would raise it again at once.
                of_service.vanished.clear();
            }
        }
        self.services.retain(|_, left| !left.vanished.is_empty());
        released
    }

    /// Whether what vanished of this service is held.
    pub(super) fn holds(&self, service: &str) -> bool {
        self.services
            .get(service)
            .is_some_and(|of_service| of_service.alarm.is_some())
    }

    /// The alarms that stand.
    pub(super) fn alarms(&self) -> BTreeMap<Arc<str>, Alarm> {
        self.services
            .iter()
            .filter_map(|(service, of_service)| {
                let alarm = of_service.alarm?;
                let alarm = Alarm {
                    vanished: of_service.vanished.len(),
                    of: alarm.of,
                    since: alarm.since,
                };
                Some((Arc::clone(service), alarm))
            })
            .collect()
    }
}

impl Service {
    fn alarm_of(&self, standing: usize, now: Instant) -> Option<Standing> {
        let recent = || {
            self.vanished
                .values()
                .filter(|at| now.saturating_duration_since(**at) <= WINDOW)
        };
        let count = recent().count();
        let of = standing + count;
        (of >= LEAST && count * 2 > of).then(|| Standing {
            since: recent().min().copied().unwrap_or(now),
            until: now + Alarm::HOLD,
            of,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: usize) -> InstanceId {
        InstanceId::from_u128(number as u128)
    }

    /// A service of `of`, of which the first `gone` vanish, `apart` from one another.
    fn after(of: usize, gone: usize, apart: Duration) -> RemovalGuard {
        let service: Arc<str> = "s".into();
        let mut guard = RemovalGuard::default();
        let mut now = Instant::now();
        for number in 0..gone {
            guard.vanished(&service, id(number), now);
            assert!(guard.weigh(|_| of - number - 1, now).is_empty());
            now += apart;
        }
        guard
    }

    proptest! {
        #[test]
        fn more_than_half_of_three_or_more_at_once_is_an_alarm(
            of in 1_usize..40, share in 0.0..=1.0_f64,
        ) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss,
                clippy::cast_precision_loss, reason = "small numbers")]
            let gone = (of as f64 * share) as usize;
            let guard = after(of, gone, Duration::ZERO);
            prop_assert_eq!(guard.holds("s"), of >= LEAST && gone * 2 > of);
        }

        /// Whatever happens in whatever order: an alarm stands only over what is missed, and what
        /// is released is not held.
        #[test]
        fn an_alarm_counts_what_is_missed(steps in prop::collection::vec((0_usize..8, 0_u8..4, 0_u64..8), 0..60)) {
            let service: Arc<str> = "s".into();
            let mut guard = RemovalGuard::default();
            let mut missed: HashSet<usize> = HashSet::new();
            let mut now = Instant::now();
            for (number, what, seconds) in steps {
                now += Duration::from_secs(seconds);
                let held = guard.holds("s");
                let mut released = match what {
                    0 | 1 => {
                        if missed.insert(number) {
                            guard.vanished(&service, id(number), now);
                        }
                        Vec::new()
                    }
                    2 => {
                        missed.remove(&number);
                        guard.accounted(&service, id(number));
                        Vec::new()
                    }
                    _ => {
                        let released = guard.dismiss();
                        if held {
                            missed.clear();
                        }
                        released
                    }
                };
                released.extend(guard.weigh(|_| 8 - missed.len(), now));
                let alarm = guard.alarms().get("s").copied();
                prop_assert_eq!(alarm.is_some(), guard.holds("s"));
                if let Some(alarm) = alarm {
                    prop_assert_eq!(alarm.vanished, missed.len());
                    prop_assert!(released.is_empty() && alarm.vanished > 0);
                }
                prop_assert!(released.is_empty() || held);
            }
        }
    }

    #[test]
    fn one_after_the_other_is_no_alarm() {
        assert!(!after(9, 6, Duration::from_secs(6)).holds("s"));
        assert!(after(9, 8, Duration::from_secs(1)).holds("s"));
    }

    #[test]
    fn an_alarm_ends_when_all_are_back_or_others_stand_there() {
        let service: Arc<str> = "s".into();
        let mut guard = after(4, 3, Duration::ZERO);
        let now = Instant::now();
        guard.accounted(&service, id(0));
        assert!(guard.weigh(|_| 2, now).is_empty());
        assert!(guard.holds("s"));
        // Two newcomers stand in the place of the two that are missed.
        guard.accounted(&service, id(7));
        guard.accounted(&service, id(8));
        let mut released = guard.weigh(|_| 4, now);
        released.sort();
        assert_eq!(released, [id(1), id(2)]);
        assert!(!guard.holds("s"));

        let mut guard = after(4, 4, Duration::ZERO);
        for number in 0..4 {
            guard.accounted(&service, id(number));
        }
        assert!(guard.weigh(|_| 0, now).is_empty());
        assert!(!guard.holds("s") && guard.alarms().is_empty());
    }

    #[test]
    fn an_alarm_ends_by_itself_after_its_time() {
        let mut guard = after(4, 4, Duration::ZERO);
        let end = guard.next_end().unwrap();
        assert!(guard.expire(end - Duration::from_millis(1)).is_empty());
        guard.prolong(end - Duration::from_secs(1));
        assert!(
            guard.expire(end).is_empty(),
            "the registry was away meanwhile"
        );
        let end = guard.next_end().unwrap();
        assert_eq!(guard.expire(end).len(), 4);
        assert!(!guard.holds("s") && guard.next_end().is_none());
        guard.weigh(|_| 0, end);
        assert!(!guard.holds("s"), "it came back by itself");
    }

    #[test]
    fn an_operator_ends_it_and_it_does_not_come_back_by_itself() {
        let mut guard = after(4, 4, Duration::ZERO);
        assert_eq!(guard.dismiss().len(), 4);
        assert!(!guard.holds("s"));
        guard.weigh(|_| 0, Instant::now());
        assert!(!guard.holds("s"));
    }
}
