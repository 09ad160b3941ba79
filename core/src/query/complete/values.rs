//! Values that could stand behind an operator: live ones with what choosing them would leave, words,
//! and examples with units.
//!
//! Invariants: one pass over the snapshot; what does not fit is dropped before it is kept.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use super::super::text::{Needle, Scratch};
use super::{
    Candidate, Completer, Field, Fuzzy, Kind, MOST, Op, Query, Role, Scorer, Span, as_value,
    version,
};
use crate::instance::{Instance, State};

/// What having a value would leave.
#[derive(Default)]
struct Tally<'a> {
    instances: usize,
    services: Distinct<'a>,
    regions: Distinct<'a>,
    versions: Option<(&'a str, &'a str)>,
}

/// The tallies of all values that fit what was typed.
struct Tallies<'a> {
    field: Field,
    fits: &'a Needle,
    places: HashMap<&'a str, Option<usize>>,
    last: Option<(&'a str, Option<usize>)>,
    all: Vec<(&'a str, Tally<'a>)>,
    /// Values that are no names but are written out: how often each is there.
    written: HashMap<String, usize>,
}

impl<'a> Tallies<'a> {
    fn new(field: Field, fits: &'a Needle) -> Self {
        Self {
            field,
            fits,
            places: HashMap::new(),
            last: None,
            all: Vec::new(),
            written: HashMap::new(),
        }
    }

    /// Counts the values that `instance` has.
    fn count(&mut self, instance: &'a Instance) {
        match self.field {
            Field::Service => self.add(instance.service(), instance),
            Field::Version => self.add(instance.version(), instance),
            Field::Region => self.add(instance.region(), instance),
            Field::Host => self.add(instance.host(), instance),
            Field::Tag => instance.tags.iter().for_each(|tag| self.add(tag, instance)),
            Field::State => self.add(instance.state.as_str(), instance),
            Field::Registered => self.add(if instance.registered { "yes" } else { "no" }, instance),
            Field::Reason => instance
                .reason
                .iter()
                .for_each(|reason| self.add(reason, instance)),
            _ => self.write(instance),
        }
    }

    /// Counts an address, a port or a pid: only what holds the typed letters, and not without bound,
    /// since there may be one per instance.
    fn write(&mut self, instance: &Instance) {
        let mut scratch = Scratch::default();
        let text = match self.field {
            Field::Address => instance.address.map(|found| scratch.write_address(found)),
            Field::AdminAddress => instance
                .admin_address
                .map(|found| scratch.write_address(found)),
            Field::Port => instance.address.map(|found| scratch.write(found.port())),
            _ => instance.pid().map(|found| scratch.write(found)),
        };
        let Some(text) = text.filter(|text| self.fits.is_in(text)) else {
            return;
        };
        if let Some(count) = self.written.get_mut(text) {
            *count += 1;
        } else if self.written.len() < 10 * MOST {
            self.written.insert(text.to_owned(), 1);
        }
    }

    /// The values and what they would leave: by score, then by name.
    fn best(mut self, typed: &str) -> Vec<(String, String)> {
        // Words that no instance has now are still words.
        let words: &[&'static str] = match self.field.kind() {
            Kind::Bool => &["yes", "no"],
            Kind::State => &State::ALL.map(State::as_str),
            _ => &[],
        };
        for word in words {
            self.place(word);
        }
        let written = self.written.iter();
        let written = written.map(|(text, count)| (text.as_str(), counted(*count, "instance")));
        let told = self
            .all
            .iter()
            .map(|(text, tally)| (*text, tally.told(self.field)));
        let mut scorer = Scorer::new(typed.trim_end_matches('*'));
        let mut places = Vec::new();
        let mut scored: Vec<(u16, &str, String)> = told
            .chain(written)
            .filter_map(|(text, description)| {
                places.clear();
                Some((scorer.score(text, &mut places)?, text, description))
            })
            .collect();
        let is_version = self.field.kind() == Kind::Version;
        scored.sort_by(|left, right| {
            let by_version = || {
                if is_version {
                    version::compare(left.1, right.1)
                } else {
                    Ordering::Equal
                }
            };
            let by_score = right.0.cmp(&left.0);
            by_score
                .then_with(by_version)
                .then_with(|| left.1.cmp(right.1))
        });
        scored.truncate(MOST);
        let best = scored.into_iter();
        best.map(|(_, text, description)| (text.to_owned(), description))
            .collect()
    }

    fn add(&mut self, name: &'a str, instance: &'a Instance) {
        // Neighbors of a snapshot often have the same names.
        let place = match self.last {
            Some((last, place)) if last == name => place,
            _ => self.place(name),
        };
        self.last = Some((name, place));
        if let Some((_, tally)) = place.and_then(|place| self.all.get_mut(place)) {
            tally.add(instance, self.field);
        }
    }

    /// Where `name` is counted; `None` when it does not fit.
    fn place(&mut self, name: &'a str) -> Option<usize> {
        let (all, fits) = (&mut self.all, self.fits);
        *self.places.entry(name).or_insert_with(|| {
            fits.is_scattered_in(name).then(|| {
                all.push((name, Tally::default()));
                all.len() - 1
            })
        })
    }
}

/// Distinct names, sorted: few for the fields that are counted.
#[derive(Default)]
struct Distinct<'a>(Vec<&'a str>);

impl<'a> Distinct<'a> {
    fn insert(&mut self, name: &'a str) {
        if self.0.last() != Some(&name)
            && let Err(position) = self.0.binary_search(&name)
        {
            self.0.insert(position, name);
        }
    }
}

impl Completer<'_> {
    /// Values of `field` that fit what was typed, the best first.
    pub(super) fn values_at(
        &self,
        field: Field,
        op: Op,
        typed: &str,
        span: Span,
        around: Option<&Query>,
    ) -> Vec<Candidate> {
        let make = |text: String, description: String| Candidate {
            span,
            text,
            description,
            role: Role::Value,
        };
        match field.kind() {
            Kind::Uuid => self.uuids(typed, span, around),
            Kind::Number | Kind::Latency | Kind::Age => examples(field, typed)
                .into_iter()
                .map(|text| make(text, field.spec().help.to_owned()))
                .collect(),
            Kind::Bool | Kind::State | Kind::Text | Kind::Version | Kind::Integer => {
                let versioned = typed.split_once(':').filter(|_| field == Field::Service);
                let (asked, of, typed) = match versioned {
                    // After a service's name come its versions.
                    Some((service, version)) => (
                        Field::Version,
                        Query::exact(Field::Service, &[service]),
                        version,
                    ),
                    None => (field, Query::all(), typed),
                };
                let found = self
                    .live(&[asked], typed, around, &of)
                    .pop()
                    .unwrap_or_default();
                found
                    .into_iter()
                    .map(|(text, description)| {
                        let text = if op.is_regex() {
                            regex::escape(&text)
                        } else {
                            text
                        };
                        let text = as_value(&text, asked);
                        match versioned {
                            Some((service, _)) => make(format!("{service}:{text}"), description),
                            None => make(text, description),
                        }
                    })
                    .collect()
            }
        }
    }

    /// Terms for whatever has a name that fits what was typed, as `service=payments`.
    pub(super) fn terms_at(
        &self,
        typed: &str,
        span: Span,
        around: Option<&Query>,
    ) -> Vec<Candidate> {
        const FIELDS: [Field; 4] = [Field::Service, Field::Region, Field::Host, Field::Tag];
        let found = self.live(&FIELDS, typed, around, &Query::all());
        let named = FIELDS.into_iter().zip(found);
        named
            .flat_map(|(field, values)| {
                values
                    .into_iter()
                    .take(MOST / 4)
                    .map(move |(text, description)| Candidate {
                        span,
                        text: format!("{field}={}", as_value(&text, field)),
                        description,
                        role: Role::Value,
                    })
            })
            .collect()
    }

    /// The instances of `of` that the filter and the rest of the query leave; all of `of` when none
    /// are left, for a menu that is empty because of another term helps nobody.
    fn each<'a>(
        &'a self,
        around: Option<&Query>,
        of: &Query,
        mut take: impl FnMut(&'a Arc<Instance>),
    ) {
        let filter = self.filter.cloned().unwrap_or_default();
        let narrow = around.cloned().unwrap_or_default().and(filter.clone());
        let mut last = None;
        for query in [narrow, filter, Query::all()] {
            // What left nothing once need not be tried again.
            if last.as_ref() == Some(&query) {
                continue;
            }
            let mut any = false;
            self.known
                .each_match(&query.clone().and(of.clone()), |instance| {
                    any = true;
                    take(instance);
                });
            if any {
                return;
            }
            last = Some(query);
        }
    }

    /// The live values of each field that fit what was typed, with what they would leave, the best
    /// first. One pass for all fields.
    fn live(
        &self,
        fields: &[Field],
        typed: &str,
        around: Option<&Query>,
        of: &Query,
    ) -> Vec<Vec<(String, String)>> {
        let fits = Needle::smart(typed.trim_end_matches('*'));
        let mut tallies: Vec<Tallies<'_>> = fields
            .iter()
            .map(|field| Tallies::new(*field, &fits))
            .collect();
        self.each(around, of, |instance| {
            for tallies in &mut tallies {
                tallies.count(instance);
            }
        });
        tallies
            .into_iter()
            .map(|tallies| tallies.best(typed))
            .collect()
    }

    fn uuids(&self, typed: &str, span: Span, around: Option<&Query>) -> Vec<Candidate> {
        let typed = typed.to_lowercase();
        let mut found = Vec::new();
        self.each(around, &Query::all(), |instance| {
            let mut room = [0; uuid::fmt::Hyphenated::LENGTH];
            let text: &str = instance.id().hyphenated().encode_lower(&mut room);
            if found.len() < MOST && text.starts_with(&typed) {
                let names = &instance.identity;
                found.push(Candidate {
                    span,
                    text: text.to_owned(),
                    description: format!("{} {} · {}", names.service, names.version, names.host),
                    role: Role::Value,
                });
            }
        });
        found
    }
}

impl<'a> Tally<'a> {
    /// Counts an instance, and of its names those that [`Tally::told`] tells of.
    fn add(&mut self, instance: &'a Instance, field: Field) {
        self.instances += 1;
        match field {
            Field::Service | Field::Version => self.regions.insert(instance.region()),
            Field::Region | Field::Host | Field::Tag => self.services.insert(instance.service()),
            _ => {}
        }
        if field != Field::Service {
            return;
        }
        let new: &str = instance.version();
        let (low, high) = self.versions.unwrap_or((new, new));
        self.versions = if low != new && version::compare(new, low).is_lt() {
            Some((new, high))
        } else if high != new && version::compare(new, high).is_gt() {
            Some((low, new))
        } else {
            Some((low, high))
        };
    }

    fn told(&self, field: Field) -> String {
        let mut told = vec![counted(self.instances, "instance")];
        if self.instances == 0 {
            return told.concat();
        }
        match field {
            Field::Service | Field::Version => told.push(counted(self.regions.0.len(), "region")),
            Field::Region | Field::Host | Field::Tag => {
                told.push(counted(self.services.0.len(), "service"));
            }
            _ => {}
        }
        match self.versions.filter(|_| field == Field::Service) {
            Some((low, high)) if low == high => told.push(low.to_owned()),
            Some((low, high)) => told.push(format!("{low} … {high}")),
            None => {}
        }
        told.join(" · ")
    }
}

fn counted(number: usize, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {one}s"),
    }
}

/// The typed number with each unit, or the table's examples when there is none.
fn examples(field: Field, typed: &str) -> Vec<String> {
    let spec = field.spec();
    let is_number = !typed.is_empty() && typed.chars().all(|letter| letter.is_ascii_digit());
    if is_number {
        let with_units = spec
            .kind
            .units()
            .iter()
            .map(|unit| format!("{typed}{unit}"));
        return with_units.collect();
    }
    let fitting = spec
        .examples
        .iter()
        .filter(|example| example.starts_with(typed));
    fitting.map(|example| (*example).to_owned()).collect()
}
