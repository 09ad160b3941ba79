//! The shell's words, and what a line means.
//!
//! Invariants: one table serves parsing, completion, highlighting and help; the words of listings
//! and changes come from the query language; parsing is pure.

use skynet::query::{Field, Listing, Verb};

/// What stands behind a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Values of a field, which stay as a filter.
    Values(Field),
    /// `yes`, `no` or `any`.
    YesNoAny,
    /// A query.
    Query,
    /// The parts of the filter that are forgotten.
    FilterParts,
    /// The start of an instance's id.
    Uuid,
    /// A program, and how many times per host.
    Program,
    /// A service, a method and a JSON object.
    Call,
    /// Another word of the shell.
    Word,
    /// Nothing.
    Nothing,
}

/// What a word does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Adds values to the filter.
    Filter(Field),
    /// Asks for registered instances, or for the others.
    Registered,
    /// Adds a query to the filter.
    Where,
    /// Shows the filter.
    Filters,
    /// Forgets the filter, or parts of it.
    Reset,
    /// Takes the last change of the filter back.
    Undo,
    /// Lists.
    List(Listing),
    /// Shows all that is known of an instance.
    Show,
    /// Changes instances.
    Change(Verb),
    /// Starts a program on hosts.
    Deploy,
    /// Calls a method.
    Call,
    /// Opens the console.
    Top,
    /// Tells about the words.
    Help,
    /// Leaves the shell.
    Exit,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// The word as it is typed.
    pub(super) name: &'static str,
    /// Other ways to type it.
    pub(super) aliases: &'static [&'static str],
    /// What it does.
    pub(super) word: Word,
    /// What stands behind it.
    pub(super) takes: Takes,
    /// How it is written, for help.
    pub(super) usage: &'static str,
    /// What it does, for help and completion.
    pub(super) help: &'static str,
}

const fn entry(
    names: (&'static str, &'static [&'static str]),
    word: Word,
    takes: Takes,
    usage: &'static str,
    help: &'static str,
) -> Entry {
    Entry {
        name: names.0,
        aliases: names.1,
        word,
        takes,
        usage,
        help,
    }
}

const fn listing(listing: Listing) -> Entry {
    let name = listing.as_str();
    entry(
        (name, &[]),
        Word::List(listing),
        Takes::Query,
        "[query]",
        listing.help(),
    )
}

const fn change(verb: Verb) -> Entry {
    let name = verb.as_str();
    entry(
        (name, &[]),
        Word::Change(verb),
        Takes::Query,
        "[query] [--all] [--include-system]",
        verb.help(),
    )
}

const fn filter(name: &'static str, field: Field, help: &'static str) -> Entry {
    entry(
        (name, &[]),
        Word::Filter(field),
        Takes::Values(field),
        "VALUE… (+VALUE adds, -VALUE drops)",
        help,
    )
}

/// Every word, in the order of help.
pub(super) const WORDS: [Entry; 26] = [
    filter(
        "service",
        Field::Service,
        "filter by services, as NAME or NAME:VERSION",
    ),
    filter("version", Field::Version, "filter by versions"),
    filter("region", Field::Region, "filter by regions"),
    filter("host", Field::Host, "filter by hosts, by name or address"),
    filter("instance", Field::Uuid, "filter by the ids of instances"),
    entry(
        ("registered", &[]),
        Word::Registered,
        Takes::YesNoAny,
        "yes|no|any",
        "filter by whether clients may choose them",
    ),
    entry(
        ("where", &[]),
        Word::Where,
        Takes::Query,
        "QUERY",
        "filter by a query, as `avg>50ms`",
    ),
    entry(
        ("filters", &[]),
        Word::Filters,
        Takes::Nothing,
        "",
        "show the filter",
    ),
    entry(
        ("undo", &[]),
        Word::Undo,
        Takes::Nothing,
        "",
        "take the last change of the filter back",
    ),
    entry(
        ("reset", &[]),
        Word::Reset,
        Takes::FilterParts,
        "[service|version|region|host|instance|registered|where]",
        "forget the filter, or parts of it",
    ),
    listing(Listing::Regions),
    listing(Listing::Hosts),
    listing(Listing::Services),
    listing(Listing::Versions),
    listing(Listing::Instances),
    listing(Listing::Topology),
    entry(
        ("show", &[]),
        Word::Show,
        Takes::Uuid,
        "UUID",
        "show all that is known of an instance",
    ),
    change(Verb::Register),
    change(Verb::Unregister),
    change(Verb::Start),
    change(Verb::Stop),
    change(Verb::Restart),
    entry(
        ("deploy", &[]),
        Word::Deploy,
        Takes::Program,
        "PATH [--per-host N] [--all] [-- ARGS]",
        "start a program on the hosts of the filter",
    ),
    entry(
        ("call", &[]),
        Word::Call,
        Takes::Call,
        "SERVICE METHOD [JSON]",
        "call a method of a service",
    ),
    entry(
        ("top", &["console"]),
        Word::Top,
        Takes::Nothing,
        "",
        "open the console; leaving it comes back here",
    ),
    entry(
        ("help", &["h", "?"]),
        Word::Help,
        Takes::Word,
        "[WORD]",
        "tell about the words",
    ),
];

/// Leaves the shell; apart, so that it ends the list.
pub(super) const EXIT: Entry = entry(
    ("exit", &["quit", "q"]),
    Word::Exit,
    Takes::Nothing,
    "",
    "leave the shell",
);

/// Every word.
pub(super) fn all() -> impl Iterator<Item = &'static Entry> {
    WORDS.iter().chain(std::iter::once(&EXIT))
}

/// The word of this name.
pub(super) fn named(name: &str) -> Option<&'static Entry> {
    let name = name.to_lowercase();
    all().find(|entry| entry.name == name || entry.aliases.contains(&&*name))
}

/// A line's first word, and where the rest begins.
pub(super) fn split(line: &str) -> (&str, usize) {
    let start = line.len() - line.trim_start().len();
    let body = line.get(start..).unwrap_or_default();
    let end = start + body.find(char::is_whitespace).unwrap_or(body.len());
    (line.get(start..end).unwrap_or_default(), end)
}

/// Switches behind a change; they are no part of its query.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Switches {
    /// Change all when nothing selects.
    pub(super) all: bool,
    /// Change Skynet's own instances too.
    pub(super) include_system: bool,
}

/// Takes the switches out of the text behind a change; they stand at its start or at its end.
pub(super) fn switches(text: &str) -> (Switches, &str) {
    let mut switches = Switches::default();
    let mut rest = text.trim();
    loop {
        let first = rest.split_whitespace().next();
        let last = rest.split_whitespace().next_back();
        if let Some(word) = first.filter(|word| switches.take(word)) {
            rest = rest.strip_prefix(word).unwrap_or_default().trim_start();
        } else if let Some(word) = last.filter(|word| switches.take(word)) {
            rest = rest.strip_suffix(word).unwrap_or_default().trim_end();
        } else {
            return (switches, rest);
        }
    }
}

impl Switches {
    fn take(&mut self, word: &str) -> bool {
        match word {
            "--all" => self.all = true,
            "--include-system" => self.include_system = true,
            _ => return false,
        }
        true
    }
}

/// What `deploy` is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// The program.
    pub(super) path: String,
    /// Its arguments.
    pub(super) args: Vec<String>,
    /// How many on each host.
    pub(super) per_host: u32,
    /// Whether it may go to every host.
    pub(super) all: bool,
}

/// Reads what stands behind `deploy`: words as in a shell, options before `--`, and arguments with
/// or without `--`, as the original took them.
///
/// # Errors
/// What is wrong, for people.
pub(super) fn program(text: &str) -> Result<Program, String> {
    let mut words = shell_words::split(text)
        .map_err(|_open_quote| "a quote is not closed".to_owned())?
        .into_iter();
    let mut program = Program {
        path: String::new(),
        args: Vec::new(),
        per_host: 1,
        all: false,
    };
    while let Some(word) = words.next() {
        let per_host = match (&*word, word.strip_prefix("--per-host=")) {
            ("--", _) => {
                program.args.extend(words);
                break;
            }
            ("--all", _) => {
                program.all = true;
                continue;
            }
            ("--per-host", _) => words.next().unwrap_or_default(),
            (_, Some(count)) => count.to_owned(),
            _ if program.path.is_empty() => {
                program.path = word;
                continue;
            }
            _ => {
                program.args.push(word);
                continue;
            }
        };
        let count = per_host
            .parse()
            .ok()
            .filter(|count| (1..=1000).contains(count));
        program.per_host =
            count.ok_or_else(|| format!("`{per_host}` is no number from 1 to 1000"))?;
    }
    if program.path.is_empty() {
        return Err("`deploy` needs the path of a program".to_owned());
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_stands_for_two_things() {
        let mut names: Vec<&str> = all()
            .flat_map(|entry| std::iter::once(entry.name).chain(entry.aliases.iter().copied()))
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_listing_and_verb_is_a_word() {
        for listing in Listing::ALL {
            assert_eq!(
                named(listing.as_str()).map(|entry| entry.word),
                Some(Word::List(listing))
            );
        }
        for verb in Verb::ALL {
            assert_eq!(
                named(verb.as_str()).map(|entry| entry.word),
                Some(Word::Change(verb))
            );
        }
        assert_eq!(named("QUIT").map(|entry| entry.word), Some(Word::Exit));
    }

    #[test]
    fn lines_are_split_behind_the_first_word() {
        assert_eq!(split("  stop  service=x"), ("stop", 6));
        assert_eq!(split("stop"), ("stop", 4));
        assert_eq!(split("   "), ("", 3));
    }

    #[test]
    fn switches_stand_at_either_end() {
        let (found, rest) = switches(" --all service=x --include-system ");
        assert_eq!(
            (found, rest),
            (
                Switches {
                    all: true,
                    include_system: true
                },
                "service=x"
            )
        );
        assert_eq!(switches("reason=\"a --all b\"").1, "reason=\"a --all b\"");
    }

    #[test]
    fn programs_are_read_as_in_a_shell() {
        let read = program("./svc --per-host 2 -- -l ':0' --per-host 3").unwrap();
        assert_eq!((&*read.path, read.per_host), ("./svc", 2));
        assert_eq!(read.args, ["-l", ":0", "--per-host", "3"]);
        assert_eq!(program("svc a b").unwrap().args, ["a", "b"]);
        for bad in ["", "--per-host 2", "svc --per-host 0", "svc 'a"] {
            assert!(program(bad).is_err(), "{bad}");
        }
    }
}
