//! The filter that stays from line to line, and the way back.
//!
//! Invariants: a change of the filter that cannot be read changes nothing; what the filter selects is
//! decided by [`skynet::query::Selectors`]; the way back has a bound.

use skynet::query::{Field, Query, SelectorError, Selectors};

/// How many changes can be taken back.
const PAST: usize = 100;

/// The filter, as query and in parts.
#[derive(Debug, Clone, Default)]
pub(super) struct Filters {
    parts: Selectors,
    query: Query,
    past: Vec<Selectors>,
}

impl Filters {
    /// A filter that begins with a query.
    pub(super) fn starting_with(query: &Query) -> Self {
        let mut filters = Self::default();
        if !query.is_all() {
            filters.parts.filters.push(query.to_string());
            filters.query = query.clone();
        }
        filters
    }

    /// What it selects.
    pub(super) fn query(&self) -> &Query {
        &self.query
    }

    /// Adds values of a field (any of them), or drops those that have a `-` before them.
    ///
    /// # Errors
    /// When a value cannot be one of the field; then nothing has changed.
    pub(super) fn add(&mut self, field: Field, values: &[String]) -> Result<(), SelectorError> {
        let mut parts = self.parts.clone();
        if let Some(kept) = values_of(&mut parts, field) {
            for value in values {
                let Some(dropped) = value.strip_prefix('-') else {
                    let added = value.strip_prefix('+').unwrap_or(value);
                    kept.retain(|value| value != added);
                    kept.push(added.to_owned());
                    continue;
                };
                kept.retain(|value| value != dropped);
            }
        }
        self.become_parts(parts)
    }

    /// Asks for registered instances, for the others, or for both.
    ///
    /// # Errors
    /// Never for the value itself; the rest of the filter is read again.
    pub(super) fn registered(&mut self, registered: Option<bool>) -> Result<(), SelectorError> {
        self.become_parts(Selectors {
            registered,
            ..self.parts.clone()
        })
    }

    /// Adds a query that must hold, too.
    ///
    /// # Errors
    /// When it is no query; then nothing has changed.
    pub(super) fn add_query(&mut self, query: &str) -> Result<(), SelectorError> {
        let mut parts = self.parts.clone();
        parts.filters.push(query.trim().to_owned());
        self.become_parts(parts)
    }

    /// Becomes another filter as a whole.
    ///
    /// # Errors
    /// When it is no query; then nothing has changed.
    pub(super) fn replace(&mut self, query: &str) -> Result<(), SelectorError> {
        let filters = Some(query.trim()).filter(|query| !query.is_empty());
        let filters = filters.map(str::to_owned).into_iter().collect();
        self.become_parts(Selectors {
            filters,
            ..Selectors::default()
        })
    }

    /// Forgets a part, or all of it; `false` when there is no such part.
    pub(super) fn reset(&mut self, part: Option<&str>) -> bool {
        let mut parts = self.parts.clone();
        match part {
            None | Some("all") => parts = Selectors::default(),
            Some("service" | "services") => parts.services.clear(),
            Some("version" | "versions") => parts.versions.clear(),
            Some("region" | "regions") => parts.regions.clear(),
            Some("host" | "hosts") => parts.hosts.clear(),
            Some("instance" | "instances") => parts.instances.clear(),
            Some("registered") => parts.registered = None,
            Some("where") => parts.filters.clear(),
            Some(_) => return false,
        }
        // Less of a filter that could be read can be read.
        self.become_parts(parts).is_ok()
    }

    /// Takes the last change back; `false` when there is none.
    pub(super) fn undo(&mut self) -> bool {
        let Some(parts) = self.past.pop() else {
            return false;
        };
        // It could be read before.
        self.query = parts.query().unwrap_or_else(|_| Query::none());
        self.parts = parts;
        true
    }

    /// The filter for people, part by part; empty when everything is selected.
    pub(super) fn lines(&self) -> Vec<String> {
        let Selectors {
            regions,
            hosts,
            services,
            versions,
            instances,
            registered,
            filters,
        } = &self.parts;
        let registered: Vec<String> = registered
            .map(|yes| if yes { "yes" } else { "no" }.to_owned())
            .into_iter()
            .collect();
        let parts = [
            ("service", services),
            ("version", versions),
            ("region", regions),
            ("host", hosts),
            ("instance", instances),
            ("registered", &registered),
        ];
        let mut lines: Vec<String> = parts
            .iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(name, values)| format!("{name:<10}  {}", values.join(", ")))
            .collect();
        lines.extend(
            filters
                .iter()
                .map(|filter| format!("{:<10}  {filter}", "where")),
        );
        lines
    }

    fn become_parts(&mut self, parts: Selectors) -> Result<(), SelectorError> {
        let query = parts.query()?;
        if parts != self.parts {
            if self.past.len() == PAST {
                self.past.remove(0);
            }
            self.past.push(std::mem::replace(&mut self.parts, parts));
            self.query = query;
        }
        Ok(())
    }
}

fn values_of(parts: &mut Selectors, field: Field) -> Option<&mut Vec<String>> {
    Some(match field {
        Field::Service => &mut parts.services,
        Field::Version => &mut parts.versions,
        Field::Region => &mut parts.regions,
        Field::Host => &mut parts.hosts,
        Field::Uuid => &mut parts.instances,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn parts_add_up_and_can_be_taken_back() {
        let mut filters = Filters::default();
        filters
            .add(Field::Service, &words("payments:1.4.2 ledger"))
            .unwrap();
        filters
            .add(Field::Service, &words("-ledger +audit"))
            .unwrap();
        filters.registered(Some(true)).unwrap();
        filters.add_query("avg>50ms").unwrap();
        assert_eq!(
            filters.query().to_string(),
            "service=payments:1.4.2,audit registered avg>50ms"
        );
        insta::assert_snapshot!(filters.lines().join("\n"), @r"
        service     payments:1.4.2, audit
        registered  yes
        where       avg>50ms
        ");
        assert!(filters.undo() && filters.undo());
        assert_eq!(filters.query().to_string(), "service=payments:1.4.2,audit");
        assert!(filters.undo() && filters.undo());
        assert!(filters.query().is_all());
        assert!(!filters.undo());
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let mut filters = Filters::default();
        filters.add(Field::Region, &words("east")).unwrap();
        assert!(filters.add_query("avg>5x").is_err());
        assert!(filters.add(Field::Uuid, &words("zz")).is_err());
        assert_eq!(filters.query().to_string(), "region=east");
        assert!(filters.undo() && !filters.undo());
    }

    #[test]
    fn reset_forgets_parts_and_instances_too() {
        let mut filters = Filters::default();
        filters.add(Field::Uuid, &words("0011aabb")).unwrap();
        filters.add(Field::Host, &words("h")).unwrap();
        assert!(filters.reset(Some("host")));
        assert_eq!(filters.query().to_string(), "uuid=0011aabb");
        assert!(!filters.reset(Some("colour")));
        assert!(filters.reset(None));
        assert!(filters.query().is_all());
        assert!(filters.undo());
        assert_eq!(filters.query().to_string(), "uuid=0011aabb");
    }
}
