//! The words of the table that are not fields: listings, verbs, flags and operators.
//!
//! Invariants: each word stands here once; `ALL` is in the order of help texts.

use std::fmt;

/// What a source is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grammar {
    /// A listing, a change or a query: for the palette and the shell.
    Statement,
    /// A query only: for the filter line, `where` and `--where`.
    Query,
}

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Listing {
    /// A row per region.
    Regions,
    /// A row per host.
    Hosts,
    /// A row per service.
    Services,
    /// A row per service and version.
    Versions,
    /// A row per instance.
    Instances,
    /// Regions, their hosts, and what runs there.
    Topology,
}

impl Listing {
    /// Every listing.
    pub const ALL: [Self; 6] = [
        Self::Regions,
        Self::Hosts,
        Self::Services,
        Self::Versions,
        Self::Instances,
        Self::Topology,
    ];

    /// The listing's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Regions => "regions",
            Self::Hosts => "hosts",
            Self::Services => "services",
            Self::Versions => "versions",
            Self::Instances => "instances",
            Self::Topology => "topology",
        }
    }

    /// What it lists, for help and completion.
    pub const fn help(self) -> &'static str {
        match self {
            Self::Regions => "list regions",
            Self::Hosts => "list hosts",
            Self::Services => "list services",
            Self::Versions => "list services by version",
            Self::Instances => "list instances",
            Self::Topology => "list regions, their hosts, and what runs there",
        }
    }
}

/// What can be done to instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Let clients choose them.
    Register,
    /// Keep clients from choosing them.
    Unregister,
    /// Start children that do not run.
    Start,
    /// Stop them.
    Stop,
    /// Stop them and start them again.
    Restart,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 5] = [
        Self::Register,
        Self::Unregister,
        Self::Start,
        Self::Stop,
        Self::Restart,
    ];

    /// The verb's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Unregister => "unregister",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }

    /// What it does, for help and completion.
    pub const fn help(self) -> &'static str {
        match self {
            Self::Register => "let clients choose instances",
            Self::Unregister => "keep clients from choosing instances",
            Self::Start => "start instances that were stopped",
            Self::Stop => "stop instances",
            Self::Restart => "stop instances and start them again",
        }
    }
}

/// A word that is a term of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flag {
    /// Clients may choose it.
    Registered,
    /// Clients may not choose it.
    Unregistered,
    /// It vanished without a word.
    Suspect,
    /// It has just left.
    Gone,
    /// It has just come.
    New,
    /// The operator has marked it.
    Marked,
}

impl Flag {
    /// Every flag.
    pub const ALL: [Self; 6] = [
        Self::Registered,
        Self::Unregistered,
        Self::Suspect,
        Self::Gone,
        Self::New,
        Self::Marked,
    ];

    /// The flag's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Unregistered => "unregistered",
            Self::Suspect => "suspect",
            Self::Gone => "gone",
            Self::New => "new",
            Self::Marked => "marked",
        }
    }

    /// What it selects, for help and completion.
    pub const fn help(self) -> &'static str {
        match self {
            Self::Registered => "clients may choose it",
            Self::Unregistered => "clients may not choose it",
            Self::Suspect => "vanished without a word",
            Self::Gone => "has just left",
            Self::New => "has just come",
            Self::Marked => "is marked",
        }
    }

    /// Reads a flag or its short form.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "reg" => Some(Self::Registered),
            "unreg" => Some(Self::Unregistered),
            _ => Self::ALL.into_iter().find(|flag| flag.as_str() == word),
        }
    }
}

/// How a field is compared with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// `:`, contains or matches the glob; equal for what is no text.
    Has,
    /// `=`, equal.
    Is,
    /// `!=`, equal to none.
    IsNot,
    /// `~`, matches the regex.
    Like,
    /// `!~`, matches no regex.
    NotLike,
    /// `<`.
    Less,
    /// `<=`.
    AtMost,
    /// `>`.
    More,
    /// `>=`.
    AtLeast,
}

impl Op {
    /// Every operator, longer signs before those that they start with.
    pub const ALL: [Self; 9] = [
        Self::IsNot,
        Self::NotLike,
        Self::AtMost,
        Self::AtLeast,
        Self::Has,
        Self::Is,
        Self::Like,
        Self::Less,
        Self::More,
    ];

    /// The operator's sign.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Has => ":",
            Self::Is => "=",
            Self::IsNot => "!=",
            Self::Like => "~",
            Self::NotLike => "!~",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
        }
    }

    /// What it asks, for completion.
    pub const fn help(self) -> &'static str {
        match self {
            Self::Has => "contains, or matches a glob",
            Self::Is => "is exactly",
            Self::IsNot => "is none of",
            Self::Like => "matches a regex",
            Self::NotLike => "does not match a regex",
            Self::Less => "less than",
            Self::AtMost => "at most",
            Self::More => "more than",
            Self::AtLeast => "at least",
        }
    }

    /// Whether white space may surround it.
    pub const fn may_be_spaced(self) -> bool {
        !matches!(self, Self::Has | Self::Like | Self::NotLike)
    }

    /// Whether it holds when no value fits.
    pub const fn is_negative(self) -> bool {
        matches!(self, Self::IsNot | Self::NotLike)
    }

    /// Whether its values are regexes.
    pub const fn is_regex(self) -> bool {
        matches!(self, Self::Like | Self::NotLike)
    }

    /// Whether it asks for an order.
    pub const fn is_order(self) -> bool {
        matches!(self, Self::Less | Self::AtMost | Self::More | Self::AtLeast)
    }

    /// The operator that `text` starts with.
    pub fn at_start_of(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|op| text.starts_with(op.as_str()))
    }
}

macro_rules! display_as_str {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(self.as_str())
            }
        }
    )*};
}

display_as_str!(Listing, Verb, Flag, Op);
