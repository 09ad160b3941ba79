//! What a change will hit, frozen when it is asked for, and what it takes to confirm it: pure.
//!
//! Invariants: a plan names its targets by id and start, and nothing else is ever acted on; every
//! surface shows the same lines and asks the same demand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::instance::{Identity, Instance, State};
use crate::query::Verb;
use crate::registry::snapshot::Snapshot;

/// Up to so many targets, a `y` is enough.
const FEW: usize = 5;
/// How many targets the lines name one by one.
const NAMED: usize = 20;

/// One instance or child that a change will hit.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its names and id.
    pub identity: Identity,
    /// When it started: another start is another process, which was not shown and is not hit.
    pub started: Timestamp,
    /// Where it answers.
    pub address: Option<SocketAddr>,
    /// Where it answers `Admin` requests.
    pub admin_address: Option<SocketAddr>,
    /// What it was doing.
    pub state: State,
    /// Whether clients could choose it.
    pub registered: bool,
}

impl Target {
    /// The instance as a target.
    pub fn of(instance: &Instance) -> Self {
        Self {
            identity: instance.identity.clone(),
            started: instance.started,
            address: instance.address,
            admin_address: instance.admin_address,
            state: instance.state,
            registered: instance.registered,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity {
            service,
            version,
            region,
            host,
            id,
        } = &self.identity;
        match self.address {
            Some(address) => write!(
                formatter,
                "{address}  {service} {version}  {region}  {host}"
            ),
            None => write!(formatter, "{id}  {service} {version}  {region}  {host}"),
        }
    }
}

/// What is left of one service and version in one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impact {
    /// The service.
    pub service: Arc<str>,
    /// The version.
    pub version: Arc<str>,
    /// The region.
    pub region: Arc<str>,
    /// How many of its instances the change hits.
    pub targets: usize,
    /// How many clients can choose now.
    pub registered_before: usize,
    /// How many they can choose when the change is done.
    pub registered_after: usize,
}

/// What a person has to type before the change is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// `y`.
    Yes,
    /// The number of targets.
    Count(usize),
    /// The name of the service that would be left with nothing.
    Name(String),
}

impl Demand {
    /// Whether `answer` meets it. Anything else, and nothing at all, declines.
    pub fn is_met_by(&self, answer: &str) -> bool {
        let answer = answer.trim();
        match self {
            Self::Yes => answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes"),
            Self::Count(count) => answer == count.to_string(),
            Self::Name(name) => answer == name,
        }
    }

    /// The prompt that asks for it.
    pub fn prompt(&self, verb: Verb) -> String {
        let verb = verb.as_str();
        match self {
            Self::Yes => format!("Type y to {verb}: "),
            Self::Count(count) => format!("Type {count} to {verb}: "),
            Self::Name(name) => format!("Type {name} to {verb}: "),
        }
    }
}

/// A change of a frozen set.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangePlan {
    /// What is to be done.
    pub verb: Verb,
    /// To whom, in the order of the listing.
    pub targets: Vec<Target>,
    /// What is left of each service, version and region that is hit.
    pub impact: Vec<Impact>,
}

impl ChangePlan {
    /// Freezes the targets as the snapshot shows them.
    pub fn freeze<'a>(
        verb: Verb,
        targets: impl IntoIterator<Item = &'a Arc<Instance>>,
        snapshot: &Snapshot,
    ) -> Self {
        let targets: Vec<Target> = targets
            .into_iter()
            .map(|instance| Target::of(instance))
            .collect();
        let impact = impact(verb, &targets, snapshot);
        Self {
            verb,
            targets,
            impact,
        }
    }

    /// Whether the change takes instances away from clients.
    pub fn takes_away(&self) -> bool {
        matches!(self.verb, Verb::Stop | Verb::Unregister | Verb::Restart)
    }

    /// What a person has to type.
    pub fn demand(&self) -> Demand {
        if self.takes_away() && self.verb != Verb::Restart {
            let emptied = self
                .impact
                .iter()
                .find(|one| one.registered_before > 0 && self.left_in_region(one) == 0);
            if let Some(emptied) = emptied {
                return Demand::Name(emptied.service.to_string());
            }
        }
        let regions: BTreeSet<&Arc<str>> = self.impact.iter().map(|one| &one.region).collect();
        let halved = self.verb != Verb::Restart
            && self
                .impact
                .iter()
                .any(|one| one.registered_after * 2 < one.registered_before);
        if self.targets.len() > FEW || regions.len() > 1 || (self.takes_away() && halved) {
            return Demand::Count(self.targets.len());
        }
        Demand::Yes
    }

    /// How many registered instances the service keeps in the region, all versions together.
    fn left_in_region(&self, of: &Impact) -> usize {
        self.impact
            .iter()
            .filter(|one| one.service == of.service && one.region == of.region)
            .map(|one| one.registered_after)
            .sum()
    }

    /// The headline: `Stop 3 instances`.
    pub fn title(&self) -> String {
        let mut verb = self.verb.as_str().to_owned();
        if let Some(first) = verb.get_mut(0..1) {
            first.make_ascii_uppercase();
        }
        format!("{verb} {}", counted(self.targets.len(), "instance"))
    }

    /// The plan for people: what is left of each service, then the targets. The same on every
    /// surface.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let rows: Vec<[String; 5]> = std::iter::once([
            "SERVICE".to_owned(),
            "VERSION".to_owned(),
            "REGION".to_owned(),
            self.verb.as_str().to_uppercase(),
            "REGISTERED LEFT".to_owned(),
        ])
        .chain(self.impact.iter().map(|one| {
            [
                one.service.to_string(),
                one.version.to_string(),
                one.region.to_string(),
                one.targets.to_string(),
                left(one),
            ]
        }))
        .collect();
        let width = |column: usize| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..5).map(|column| width(column).unwrap_or(0)).collect();
        for [service, version, region, hits, left] in &rows {
            lines.push(format!(
                "{service:<0$}  {version:<1$}  {region:<2$}  {hits:>3$}  {left}",
                widths[0], widths[1], widths[2], widths[3]
            ));
        }
        lines.push(String::new());
        lines.extend(self.targets.iter().take(NAMED).map(ToString::to_string));
        if self.targets.len() > NAMED {
            lines.push(format!("… and {} more", self.targets.len() - NAMED));
        }
        lines
    }
}

fn left(one: &Impact) -> String {
    let (before, after) = (one.registered_before, one.registered_after);
    if before == after {
        return format!("{after}");
    }
    if before == 0 {
        return format!("{before} → {after}");
    }
    let change = (after.abs_diff(before) * 100).div_ceil(before);
    let sign = if after < before { '−' } else { '+' };
    format!("{before} → {after} ({sign}{change}%)")
}

/// `1 instance`, `3 instances`.
pub fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

fn impact(verb: Verb, targets: &[Target], snapshot: &Snapshot) -> Vec<Impact> {
    type Group = (Arc<str>, Arc<str>, Arc<str>);
    let group = |identity: &Identity| -> Group {
        (
            Arc::clone(&identity.service),
            Arc::clone(&identity.version),
            Arc::clone(&identity.region),
        )
    };
    let mut hit: BTreeMap<Group, (usize, usize)> = BTreeMap::new();
    for target in targets {
        let (count, registered) = hit.entry(group(&target.identity)).or_default();
        *count += 1;
        *registered += usize::from(is_serving(target.registered, target.state));
    }
    let services: BTreeSet<Arc<str>> = hit
        .keys()
        .map(|(service, _, _)| Arc::clone(service))
        .collect();
    let mut before: BTreeMap<Group, usize> = BTreeMap::new();
    for instance in services
        .iter()
        .flat_map(|service| snapshot.of_service(service))
    {
        let serving = is_serving(instance.registered, instance.state);
        *before.entry(group(&instance.identity)).or_default() += usize::from(serving);
    }
    // Versions of the same service that are not hit count for what is left of the service.
    let regions: BTreeSet<(Arc<str>, Arc<str>)> = hit
        .keys()
        .map(|(service, _, region)| (Arc::clone(service), Arc::clone(region)))
        .collect();
    before
        .into_iter()
        .filter(|((service, _, region), _)| {
            regions.contains(&(Arc::clone(service), Arc::clone(region)))
        })
        .map(|(key, registered_before)| {
            let (targets, registered) = hit.get(&key).copied().unwrap_or_default();
            let registered_after = match verb {
                Verb::Register | Verb::Start => registered_before + targets - registered,
                Verb::Unregister | Verb::Stop => registered_before - registered,
                Verb::Restart => registered_before,
            };
            let (service, version, region) = key;
            Impact {
                service,
                version,
                region,
                targets,
                registered_before,
                registered_after,
            }
        })
        .collect()
}

fn is_serving(registered: bool, state: State) -> bool {
    registered && matches!(state, State::Ready | State::Pressured | State::Starting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::InstanceId;

    fn instance(id: u128, version: &str, region: &str) -> Instance {
        let mut instance = crate::testing::instance(id);
        instance.identity.service = "pay".into();
        instance.identity.host = "h1".into();
        instance.identity.version = version.into();
        instance.identity.region = region.into();
        instance.address = Some(([127, 0, 0, 1], 9000 + u16::try_from(id).unwrap()).into());
        instance
    }

    fn cluster() -> Snapshot {
        let east = (1..=4).map(|id| instance(id, "1", "east"));
        let west = (5..=6).map(|id| instance(id, "2", "west"));
        Snapshot::of(east.chain(west), [])
    }

    fn plan(verb: Verb, ids: &[u128]) -> ChangePlan {
        let cluster = cluster();
        let targets: Vec<Arc<Instance>> = ids
            .iter()
            .map(|id| Arc::clone(cluster.instance(InstanceId::from_u128(*id)).unwrap()))
            .collect();
        ChangePlan::freeze(verb, &targets, &cluster)
    }

    #[test]
    fn the_demand_grows_with_what_is_taken_away() {
        let table: [(Verb, &[u128], Demand); 7] = [
            (Verb::Stop, &[1], Demand::Yes),
            (Verb::Stop, &[1, 2], Demand::Yes),
            (Verb::Stop, &[1, 2, 3], Demand::Count(3)),
            (Verb::Stop, &[1, 5], Demand::Count(2)),
            (Verb::Stop, &[5, 6], Demand::Name("pay".into())),
            (Verb::Restart, &[5, 6], Demand::Yes),
            (Verb::Register, &[1, 2, 3, 4, 5, 6], Demand::Count(6)),
        ];
        for (verb, ids, demand) in table {
            assert_eq!(plan(verb, ids).demand(), demand, "{verb:?} {ids:?}");
        }
    }

    #[test]
    fn only_the_exact_answer_meets_a_demand() {
        assert!(Demand::Count(3).is_met_by(" 3\n"));
        assert!(Demand::Name("pay".into()).is_met_by("pay"));
        for (demand, answer) in [
            (Demand::Yes, ""),
            (Demand::Yes, "n"),
            (Demand::Count(3), "y"),
            (Demand::Count(3), "03"),
            (Demand::Name("pay".into()), "Pay"),
        ] {
            assert!(!demand.is_met_by(answer), "{demand:?} {answer:?}");
        }
    }

    #[test]
    fn the_lines_tell_what_is_left() {
        let lines = plan(Verb::Stop, &[1, 5]).lines().join("\n");
        insta::assert_snapshot!(lines, @r"
        SERVICE  VERSION  REGION  STOP  REGISTERED LEFT
        pay      1        east       1  4 → 3 (−25%)
        pay      2        west       1  2 → 1 (−50%)

        127.0.0.1:9001  pay 1  east  h1
        127.0.0.1:9005  pay 2  west  h1
        ");
    }
}
