//! The selectors of one-shot commands, as one query.
//!
//! Invariants: values are compared exactly, unless they hold `*` or `?`; values of one flag are any
//! of, whether by commas or by repeating it, and different flags must all hold; an empty value is an
//! error and never widens (`--region "$UNSET"`).

use crate::hint::Hint;

use super::ast::{Comparison, Value};
use super::schema::{Field, Flag, Op};
use super::{Diagnostic, Expr, Query, QueryError, parse};

/// What the flags of a command say; the default selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selectors {
    /// `--region a,b`.
    pub regions: Vec<String>,
    /// `--host h`.
    pub hosts: Vec<String>,
    /// `--service name[:version]`.
    pub services: Vec<String>,
    /// `--version v`.
    pub versions: Vec<String>,
    /// `--instance uuid[,uuid]`, each at least 4 hex digits.
    pub instances: Vec<String>,
    /// `--registered[=yes|no]`.
    pub registered: Option<bool>,
    /// `--where 'QUERY'`; all must hold.
    pub filters: Vec<String>,
}

/// Why selectors select nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectorError {
    /// A flag has an empty value.
    #[error("`--{flag}` has an empty value")]
    Empty {
        /// The flag's name.
        flag: &'static str,
    },
    /// A flag has a value that its field cannot have.
    #[error("`--{flag} {value}`: {}", .found.message)]
    Value {
        /// The flag's name.
        flag: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it.
        found: Diagnostic,
    },
    /// A `--where` is no query.
    #[error(transparent)]
    Filter(#[from] QueryError),
}

impl Selectors {
    /// Whether nothing was selected by: then a change needs `--all`.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What all flags together select.
    ///
    /// # Errors
    ///
    /// The first value that is empty or that its field cannot have, the first `--where` that is no
    /// query.
    pub fn query(&self) -> Result<Query, SelectorError> {
        let flags: [(&'static str, Field, &[String]); 5] = [
            ("region", Field::Region, &self.regions),
            ("host", Field::Host, &self.hosts),
            ("service", Field::Service, &self.services),
            ("version", Field::Version, &self.versions),
            ("instance", Field::Uuid, &self.instances),
        ];
        let mut query = Query::all();
        for (flag, field, given) in flags {
            if !given.is_empty() {
                query = query.and(any_of(flag, field, given)?);
            }
        }
        if let Some(registered) = self.registered {
            let flag = if registered {
                Flag::Registered
            } else {
                Flag::Unregistered
            };
            query = query.and(Query::of(Expr::Flag(flag)));
        }
        for filter in &self.filters {
            query = query.and(filter.parse()?);
        }
        Ok(query)
    }
}

fn any_of(flag: &'static str, field: Field, given: &[String]) -> Result<Query, SelectorError> {
    let mut values: Vec<Value> = Vec::new();
    for value in given
        .iter()
        .flat_map(|given| given.split(','))
        .map(str::trim)
    {
        if value.is_empty() {
            return Err(SelectorError::Empty { flag });
        }
        values.push(
            parse::flag_value(field, value).map_err(|found| SelectorError::Value {
                flag,
                value: value.to_owned(),
                found,
            })?,
        );
    }
    Ok(Query::of(Expr::Compare(Comparison {
        field,
        op: Op::Is,
        values,
    })))
}

impl Hint for SelectorError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Empty { flag } => Some(format!(
                "leave `--{flag}` out to select by other flags only"
            )),
            Self::Value { found, .. } => found.hint.clone(),
            Self::Filter(error) => error.hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[track_caller]
    fn check(selectors: &Selectors, expected: &str) {
        let told = match selectors.query() {
            Ok(query) => {
                assert_eq!(query.to_string().parse(), Ok(query.clone()));
                query.to_string()
            }
            Err(error) => format!("{error}; {}", error.hint().unwrap_or_default()),
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn flags_become_one_query() {
        check(&Selectors::default(), "");
        assert!(Selectors::default().is_empty());
        let all = Selectors {
            regions: of(&["a,b", "c"]),
            services: of(&["payments:1.4*", "pay*", "a b"]),
            instances: of(&["6F1C"]),
            registered: Some(false),
            filters: of(&["avg>5 or gone", "x"]),
            ..Selectors::default()
        };
        check(
            &all,
            "region=a,b,c service=payments:1.4*,pay*,\"a b\" uuid=6f1c unregistered \
             (avg>5 or gone) x",
        );
    }

    #[test]
    fn bad_values_never_widen() {
        let services = |values: &[&str]| Selectors {
            services: of(values),
            ..Selectors::default()
        };
        check(
            &services(&[""]),
            "`--service` has an empty value; leave `--service` out to select by other flags only",
        );
        check(
            &services(&["a,,b"]),
            "`--service` has an empty value; leave `--service` out to select by other flags only",
        );
        check(
            &services(&["pay ments*"]),
            "`--service pay ments*`: a pattern has no spaces, quotes or parentheses; \
             use `--where` with `~` and a regex in quotes",
        );
        let instances = Selectors {
            instances: of(&["6f"]),
            ..Selectors::default()
        };
        check(
            &instances,
            "`--instance 6f`: `6f` is not the start of a uuid; at least its first 4 hex digits",
        );
        let filters = Selectors {
            filters: of(&["regoin=x"]),
            ..Selectors::default()
        };
        check(
            &filters,
            "`regoin=x` is no query: there is no field `regoin`; did you mean `region`?",
        );
    }
}
