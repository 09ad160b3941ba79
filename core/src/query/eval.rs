//! Whether a plan holds of an instance, in a logic of three values.
//!
//! Invariants: what is not known (null in JSON) makes a comparison neither true nor false, and so
//! neither it nor its negation matches; nothing here allocates. Pure: the time is a fact among others.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;

use crate::instance::{Instance, State};
use crate::stats::InstanceStats;

use super::ast::WordKind;
use super::plan::{Interval, Plan, Reach, TextTest, UuidTest, Wanted};
use super::schema::{Field, Flag, Op};
use super::text::{Needle, Scratch};
use super::version;

/// What a query may ask of an instance that does not stand in the registry.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Its measurements; `None` when they were not asked for or did not come.
    pub stats: Option<&'a InstanceStats>,
    /// Its requests per second, when they are known.
    pub rps: Option<f64>,
    /// The present time, for ages.
    pub now: Timestamp,
    /// The address of its host, when the host is known.
    pub host_address: Option<IpAddr>,
    /// Whether the operator has marked it.
    pub marked: bool,
    /// Whether it has just come.
    pub new: bool,
}

impl Facts<'_> {
    /// Nothing but the time.
    pub fn at(now: Timestamp) -> Self {
        Self {
            stats: None,
            rps: None,
            now,
            host_address: None,
            marked: false,
            new: false,
        }
    }
}

/// Yes, no, or not known.
pub(crate) type Truth = Option<bool>;

impl Plan {
    /// Whether it holds.
    pub(crate) fn eval(&self, instance: &Instance, facts: &Facts<'_>) -> Truth {
        match self {
            Self::And(parts) => until(parts, false, instance, facts),
            Self::Or(parts) => until(parts, true, instance, facts),
            Self::Not(part) => part.eval(instance, facts).map(|holds| !holds),
            Self::Flag(flag) => Some(has_flag(*flag, instance, facts)),
            Self::Text(field, wanted) => eval_text(*field, wanted, instance),
            Self::Host(wanted, false) => Some(wanted.holds(|test| test.fits(instance.host()))),
            Self::Host(wanted, true) => Some(wanted.holds(|test| is_host(test, instance, facts))),
            Self::ServiceVersion(wanted) => Some(wanted.holds(|(version, service)| {
                service.fits(instance.service())
                    && version
                        .as_ref()
                        .is_none_or(|version| version.fits(instance.version()))
            })),
            Self::VersionOrder(op, versions) => Some(
                versions
                    .iter()
                    .any(|version| in_order(*op, instance.version(), version)),
            ),
            Self::Uuid(wanted) => {
                let id = instance.id().as_u128();
                Some(wanted.holds(|test| test.fits(id)))
            }
            Self::Registered(wanted) => Some(wanted.holds(|yes| *yes == instance.registered)),
            Self::State(wanted) => Some(wanted.holds(|state| *state == instance.state)),
            Self::Number(field, wanted) => {
                let number = number(*field, instance, facts)?;
                Some(wanted.holds(|interval| interval.contains(number)))
            }
            Self::Word(kind, needle, reach) => Some(is_word(*kind, needle, *reach, instance)),
        }
    }
}

/// A conjunction (`decisive` is false) or an alternative (true): the first decisive part decides,
/// an unknown one leaves it open.
fn until(parts: &[Plan], decisive: bool, instance: &Instance, facts: &Facts<'_>) -> Truth {
    let mut truth = Some(!decisive);
    for part in parts {
        match part.eval(instance, facts) {
            Some(holds) if holds == decisive => return Some(decisive),
            Some(_) => {}
            None => truth = None,
        }
    }
    truth
}

impl<T> Wanted<T> {
    fn holds(&self, fits: impl FnMut(&T) -> bool) -> bool {
        self.any.iter().any(fits) != self.negative
    }
}

impl TextTest {
    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Exact(wanted, _) => &**wanted == text,
            Self::OneOf(wanted) => wanted.binary_search_by(|one| (**one).cmp(text)).is_ok(),
            Self::Contains(needle) => needle.is_in(text),
            Self::Glob(glob) => glob.matches(text),
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

impl UuidTest {
    fn fits(&self, id: u128) -> bool {
        match self {
            Self::Prefix { value, mask } => id & mask == *value,
            Self::OneOf(ids) => ids.binary_search(&id).is_ok(),
        }
    }
}

impl Interval {
    fn contains(&self, number: f64) -> bool {
        if self.open {
            self.low < number && number < self.high
        } else {
            self.low <= number && number <= self.high
        }
    }
}

fn has_flag(flag: Flag, instance: &Instance, facts: &Facts<'_>) -> bool {
    match flag {
        Flag::Registered => instance.registered,
        Flag::Unregistered => !instance.registered,
        Flag::Suspect => instance.state == State::Suspect,
        Flag::Gone => instance.state == State::Gone,
        Flag::New => facts.new,
        Flag::Marked => facts.marked,
    }
}

fn eval_text(field: Field, wanted: &Wanted<TextTest>, instance: &Instance) -> Truth {
    let text: &str = match field {
        Field::Service => instance.service(),
        Field::Version => instance.version(),
        Field::Region => instance.region(),
        Field::Reason => instance.reason.as_deref()?,
        Field::Tag => {
            let fits = |test: &TextTest| instance.tags.iter().any(|tag| test.fits(tag));
            return Some(wanted.holds(fits));
        }
        Field::Address => return eval_address(instance.address, wanted),
        Field::AdminAddress => return eval_address(instance.admin_address, wanted),
        // The other fields are no texts; a plan never asks so.
        _ => return None,
    };
    Some(wanted.holds(|test| test.fits(text)))
}

fn eval_address(address: Option<SocketAddr>, wanted: &Wanted<TextTest>) -> Truth {
    let mut scratch = Scratch::default();
    let text = scratch.write_address(address?);
    Some(wanted.holds(|test| test.fits(text)))
}

/// Whether the host's name or one of its addresses fits.
fn is_host(test: &TextTest, instance: &Instance, facts: &Facts<'_>) -> bool {
    if test.fits(instance.host()) {
        return true;
    }
    let own = instance.address.map(|address| address.ip());
    let mut addresses = own.into_iter().chain(facts.host_address);
    match test {
        TextTest::Exact(_, wanted) => {
            wanted.is_some_and(|wanted| addresses.any(|address| address == wanted))
        }
        _ => addresses.any(|address| test.fits(Scratch::default().write_ip(address))),
    }
}

fn in_order(op: Op, left: &str, right: &str) -> bool {
    let order = version::compare(left, right);
    match op {
        Op::Less => order.is_lt(),
        Op::AtMost => order.is_le(),
        Op::More => order.is_gt(),
        Op::AtLeast => order.is_ge(),
        Op::Has | Op::Is | Op::IsNot | Op::Like | Op::NotLike => false,
    }
}

/// The value of a field that is a number; durations in microseconds.
pub(crate) fn number(field: Field, instance: &Instance, facts: &Facts<'_>) -> Option<f64> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts beyond 2^53 need not be told apart"
    )]
    let measured = |read: fn(&InstanceStats) -> i64| facts.stats.map(|stats| read(stats) as f64);
    match field {
        Field::Port => instance.address.map(|address| f64::from(address.port())),
        Field::Pid => instance.pid().map(f64::from),
        Field::Clients => measured(|stats| stats.clients),
        Field::Inflight => measured(|stats| stats.inflight),
        Field::Requests => measured(|stats| stats.requests),
        Field::Rps => facts.rps,
        Field::Avg => measured(|stats| stats.avg_us),
        Field::P50 => measured(|stats| stats.p50_us),
        Field::P99 => measured(|stats| stats.p99_us),
        Field::Uptime => uptime(instance, facts.now),
        Field::Last => idle(instance, facts),
        // The other fields are no numbers; a plan never asks so.
        _ => None,
    }
}

/// Time since the start; what does not run has none.
fn uptime(instance: &Instance, now: Timestamp) -> Option<f64> {
    let runs =
        !instance.state.is_child_only() && !matches!(instance.state, State::Dead | State::Gone);
    runs.then(|| micros(instance.started, now))
}

/// Time since the last request, or since the start when none came.
fn idle(instance: &Instance, facts: &Facts<'_>) -> Option<f64> {
    let last = facts.stats?.last.as_str();
    let since = if last.is_empty() {
        instance.started
    } else {
        last.parse().ok()?
    };
    Some(micros(since, facts.now))
}

fn micros(since: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(since).as_secs_f64().max(0.0) * 1e6
}

fn is_word(kind: WordKind, needle: &Needle, reach: Reach, instance: &Instance) -> bool {
    let names = [
        instance.service(),
        instance.host(),
        instance.version(),
        instance.region(),
    ];
    let found = |text: &str| match kind {
        WordKind::Fuzzy => needle.is_scattered_in(text),
        _ => needle.stands_in(kind, text),
    };
    if names.into_iter().any(|name| found(name)) {
        return true;
    }
    // Letters scattered over digits say nothing, so here even a fuzzy word must stand as it is.
    if reach.uuid {
        let mut room = [0; uuid::fmt::Hyphenated::LENGTH];
        let text: &str = instance.id().hyphenated().encode_lower(&mut room);
        if needle.stands_in(kind, text) {
            return true;
        }
    }
    reach.address
        && instance.address.is_some_and(|address| {
            needle.stands_in(kind, Scratch::default().write_address(address))
        })
}

impl Needle {
    /// Whether it stands in `text` as it is, where `kind` wants it.
    fn stands_in(&self, kind: WordKind, text: &str) -> bool {
        match kind {
            WordKind::Fuzzy | WordKind::Substring => self.is_in(text),
            WordKind::Prefix => self.starts(text),
            WordKind::Suffix => self.ends(text),
            WordKind::Whole => self.is_whole(text),
        }
    }
}
