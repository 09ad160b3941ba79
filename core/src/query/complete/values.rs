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
                let Some((service, version)) = versioned else {
                    return self.live(field, op, typed, around, &make);
                };
                // After a service's name come its versions.
                let of_service = Query::exact(Field::Service, &[service]);
                let both = around.cloned().unwrap_or_default().and(of_service);
                let versions = self.live(Field::Version, op, version, Some(&both), &make);
                versions
                    .into_iter()
                    .map(|found| Candidate {
                        text: format!("{service}:{}", found.text),
                        ..found
                    })
                    .collect()
            }
        }
    }

    /// The instances that the filter and the rest of the query leave; all of them when none are left,
    /// for a menu that is empty because of another term helps nobody.
    fn each<'a>(&'a self, around: Option<&Query>, mut take: impl FnMut(&'a Arc<Instance>)) {
        let filter = self.filter.cloned().unwrap_or_default();
        let narrow = around.cloned().unwrap_or_default().and(filter.clone());
        for query in [narrow, filter, Query::all()] {
            let mut any = false;
            self.known.each_match(&query, |instance| {
                any = true;
                take(instance);
            });
            if any {
                return;
            }
        }
    }

    fn live(
        &self,
        field: Field,
        op: Op,
        typed: &str,
        around: Option<&Query>,
        make: &impl Fn(String, String) -> Candidate,
    ) -> Vec<Candidate> {
        let mut tallies: HashMap<&str, Tally<'_>> = HashMap::new();
        let mut written: HashMap<String, usize> = HashMap::new();
        let fits = Needle::smart(typed);
        self.each(around, |instance| {
            let mut count = |name| tallies.entry(name).or_default().add(instance);
            match field {
                Field::Service => count(instance.service()),
                Field::Version => count(instance.version()),
                Field::Region => count(instance.region()),
                Field::Host => count(instance.host()),
                Field::Tag => instance.tags.iter().for_each(|tag| count(tag)),
                Field::State => count(instance.state.as_str()),
                Field::Registered => count(if instance.registered { "yes" } else { "no" }),
                Field::Reason => instance.reason.iter().for_each(|reason| count(reason)),
                _ => count_written(&mut written, field, instance, &fits),
            }
        });
        // Words that no instance has now are still words.
        let words: &[&'static str] = match field.kind() {
            Kind::Bool => &["yes", "no"],
            Kind::State => &State::ALL.map(State::as_str),
            _ => &[],
        };
        for word in words {
            tallies.entry(word).or_default();
        }
        let written = written
            .iter()
            .map(|(text, count)| (text.as_str(), counted(*count, "instance")));
        let told = tallies
            .iter()
            .map(|(text, tally)| (*text, tally.told(field)));
        best(field, typed, told.chain(written).collect())
            .into_iter()
            .map(|(text, description)| {
                let text = if op.is_regex() {
                    regex::escape(text)
                } else {
                    text.to_owned()
                };
                make(as_value(&text, field), description)
            })
            .collect()
    }

    fn uuids(&self, typed: &str, span: Span, around: Option<&Query>) -> Vec<Candidate> {
        let typed = typed.to_lowercase();
        let mut found = Vec::new();
        self.each(around, |instance| {
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

/// Counts a value that is no name but is written out, as addresses and ports are: only what holds
/// the typed letters, and not without bound, since there may be one per instance.
fn count_written(
    written: &mut HashMap<String, usize>,
    field: Field,
    instance: &Instance,
    fits: &Needle,
) {
    let mut scratch = Scratch::default();
    let text = match field {
        Field::Address => instance.address.map(|found| scratch.write(found)),
        Field::AdminAddress => instance.admin_address.map(|found| scratch.write(found)),
        Field::Port => instance.address.map(|found| scratch.write(found.port())),
        _ => instance.pid().map(|found| scratch.write(found)),
    };
    let Some(text) = text.filter(|text| fits.is_in(text)) else {
        return;
    };
    if let Some(count) = written.get_mut(text) {
        *count += 1;
    } else if written.len() < 10 * MOST {
        written.insert(text.to_owned(), 1);
    }
}

impl<'a> Tally<'a> {
    fn add(&mut self, instance: &'a Instance) {
        self.instances += 1;
        self.services.insert(instance.service());
        self.regions.insert(instance.region());
        let new: &str = instance.version();
        let (low, high) = self.versions.unwrap_or((new, new));
        if low != new && version::compare(new, low).is_lt() {
            self.versions = Some((new, high));
        } else if high != new && version::compare(new, high).is_gt() {
            self.versions = Some((low, new));
        } else {
            self.versions = Some((low, high));
        }
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

/// The texts that fit what was typed: by score, then by name.
fn best<'a>(field: Field, typed: &str, texts: Vec<(&'a str, String)>) -> Vec<(&'a str, String)> {
    let mut scorer = Scorer::new(typed.trim_end_matches('*'));
    let mut places = Vec::new();
    let mut scored: Vec<(u16, &str, String)> = texts
        .into_iter()
        .filter_map(|(text, description)| {
            places.clear();
            Some((scorer.score(text, &mut places)?, text, description))
        })
        .collect();
    scored.sort_by(|left, right| {
        let by_version = || match field.kind() {
            Kind::Version => version::compare(left.1, right.1),
            _ => Ordering::Equal,
        };
        let by_score = right.0.cmp(&left.0);
        by_score
            .then_with(by_version)
            .then_with(|| left.1.cmp(right.1))
    });
    scored.truncate(MOST);
    scored
        .into_iter()
        .map(|(_, text, description)| (text, description))
        .collect()
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
