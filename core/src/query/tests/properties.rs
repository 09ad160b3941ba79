//! What holds of every source and every tree.

use proptest::prelude::*;

use super::*;
use crate::query::ast::{Comparison, Quantity, Unit, Value, Word, WordKind};

fn letters() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 \"\\\\*?(),|&:=!~<>@'$.-]{1,8}"
}

fn quantity(units: &'static [Unit]) -> impl Strategy<Value = Quantity> {
    (
        0_u32..100_000,
        prop::option::of(prop::sample::select(units)),
    )
        .prop_map(|(number, unit)| Quantity {
            number: f64::from(number) / 4.0,
            unit,
        })
}

fn text_value(field: Field) -> BoxedStrategy<Value> {
    let text = letters().prop_map(Value::Text);
    let glob = "[a-z0-9.-]{0,3}[*?][a-z0-9.]{0,3}".prop_map(Value::Glob);
    if field != Field::Service {
        return prop_oneof![text, glob].boxed();
    }
    let plain = "[a-z][a-z0-9.-]{0,4}".prop_map(Value::Text);
    let part = prop_oneof![plain, glob.clone()];
    let both = (part.clone(), part)
        .prop_map(|(service, version)| Value::ServiceVersion(Box::new(service), Box::new(version)));
    prop_oneof![text, glob, both].boxed()
}

fn value(field: Field, op: Op) -> BoxedStrategy<Value> {
    use schema::Kind;
    if op.is_regex() {
        return prop_oneof![
            "[a-z]{1,4}",
            "[a-z]{1,2}[.+*?|]",
            "\\(a\\|B\\)\\{1,2\\}",
            "\"?\\\\d x\\\\\\\\"
        ]
        .prop_filter_map("a regex", |text| {
            regex::RegexBuilder::new(&text)
                .build()
                .ok()
                .map(|regex| Value::Regex(ast::Pattern(regex, text)))
        })
        .boxed();
    }
    let time = &[
        Unit::Micros,
        Unit::Millis,
        Unit::Seconds,
        Unit::Minutes,
        Unit::Hours,
        Unit::Days,
    ];
    let quantities = match field.kind() {
        Kind::Text | Kind::Version if op.is_order() => {
            return letters().prop_map(Value::Text).boxed();
        }
        Kind::Text | Kind::Version => return text_value(field),
        Kind::Uuid => return "[0-9a-f]{4,8}(-[0-9a-f]{4})?".prop_map(Value::Uuid).boxed(),
        Kind::Bool => return any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::State => {
            return prop::sample::select(&State::ALL[..])
                .prop_map(Value::State)
                .boxed();
        }
        Kind::Integer => (0_u32..99_999)
            .prop_map(|number| Quantity {
                number: f64::from(number),
                unit: None,
            })
            .boxed(),
        Kind::Number => quantity(&[Unit::Kilo, Unit::Mega, Unit::Giga]).boxed(),
        Kind::Latency => quantity(time).boxed(),
        Kind::Age => quantity(time)
            .prop_filter("a unit", |age| age.unit.is_some())
            .boxed(),
    };
    let single = quantities.clone().prop_map(Value::Quantity);
    if op.is_order() {
        return single.boxed();
    }
    let bare = parse::bare_factor(field.kind());
    let range = (quantities.clone(), quantities).prop_map(move |(one, other)| {
        if one.scaled(bare) <= other.scaled(bare) {
            Value::Range(one, other)
        } else {
            Value::Range(other, one)
        }
    });
    prop_oneof![3 => single, 1 => range].boxed()
}

fn comparison() -> impl Strategy<Value = Expr> {
    prop::sample::select(schema::FIELDS.iter().collect::<Vec<_>>())
        .prop_flat_map(|spec| {
            (
                Just(spec.field),
                prop::sample::select(spec.kind.operators()),
            )
        })
        .prop_flat_map(|(field, op)| {
            (
                Just(field),
                Just(op),
                prop::collection::vec(value(field, op), 1..4),
            )
        })
        .prop_map(|(field, op, values)| Expr::Compare(Comparison { field, op, values }))
}

fn word() -> impl Strategy<Value = Expr> {
    const KINDS: &[WordKind] = &[WordKind::Prefix, WordKind::Suffix, WordKind::Whole];
    let plain = prop_oneof![
        "[a-z][a-z0-9]{3,5}x",
        "[0-9.]{1,4}:[0-9]{1,4}",
        "[a-z]-[a-z]=?"
    ];
    let free = letters().prop_map(|text| (WordKind::Substring, text));
    prop_oneof![
        plain.clone().prop_map(|text| (WordKind::Fuzzy, text)),
        free,
        (prop::sample::select(KINDS), plain),
    ]
    .prop_map(|(kind, text)| Expr::Word(Word { kind, text }))
}

pub(super) fn tree() -> impl Strategy<Value = Expr> {
    let flag = prop::sample::select(&Flag::ALL[..]).prop_map(Expr::Flag);
    let term = prop_oneof![4 => comparison(), 1 => flag, 2 => word()];
    term.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::and),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::or),
            inner.prop_map(Expr::not),
        ]
    })
}

/// Sources that look like queries, most of them broken.
pub(super) fn source() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "service",
        "avg",
        "registered",
        "regoin",
        "stop",
        "instances",
        "and",
        "or",
        "not",
        "(",
        ")",
        "!",
        "=",
        "!=",
        "~",
        "!~",
        "<",
        ">=",
        ":",
        ",",
        "\"",
        "\\",
        "..",
        "*",
        "@x",
        "^",
        "$",
        "'",
        "5ms",
        "10k",
        "9",
        " ",
        " ",
        "\u{e4}",
        "\u{6771}",
        "x",
        "&",
        "|",
        "\t",
    ]);
    prop_oneof![
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()),
        ".{0,24}",
        tree().prop_map(|tree| tree.to_string()),
    ]
}

fn rows() -> impl Strategy<Value = Row> {
    let name = || "(payments|ab|b-1|10|x)";
    (
        name(),
        name(),
        any::<bool>(),
        any::<u128>(),
        prop::option::of(0_i64..5000),
        0_usize..13,
    )
        .prop_map(|(service, region, registered, id, avg, state)| {
            let mut row = row();
            row.instance.identity.service = service.into();
            row.instance.identity.region = region.into();
            row.instance.identity.id = InstanceId::from_u128(id);
            row.instance.registered = registered;
            row.instance.state = State::ALL[state];
            row.stats = avg.map(|avg_us| InstanceStats {
                avg_us,
                clients: avg_us,
                ..Default::default()
            });
            row.rps = None;
            row
        })
}

/// The tree read term by term, each as a query of its own: no order of costs, no shortcut.
fn naive(expr: &Expr, row: &Row) -> Option<bool> {
    match expr {
        Expr::And(parts) => {
            let truths: Vec<_> = parts.iter().map(|part| naive(part, row)).collect();
            if truths.contains(&Some(false)) {
                Some(false)
            } else {
                truths
                    .into_iter()
                    .all(|truth| truth.is_some())
                    .then_some(true)
            }
        }
        Expr::Or(parts) => {
            let truths: Vec<_> = parts.iter().map(|part| naive(part, row)).collect();
            if truths.contains(&Some(true)) {
                Some(true)
            } else {
                truths
                    .into_iter()
                    .all(|truth| truth.is_some())
                    .then_some(false)
            }
        }
        Expr::Not(part) => naive(part, row).map(|truth| !truth),
        term => {
            let (holds, fails) = (
                Query::of(term.clone()),
                Query::of(Expr::Not(Box::new(term.clone()))),
            );
            match (row.matches(&holds), row.matches(&fails)) {
                (true, false) => Some(true),
                (false, true) => Some(false),
                (false, false) => None,
                (true, true) => panic!("{term} holds and does not"),
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(tree in tree()) {
        let query = Query::of(tree);
        let text = query.to_string();
        prop_assert_eq!(&told(&parse_query(&text)), &format!("ok {}", Statement::Query(query.clone())));
        prop_assert_eq!(text.parse::<Query>(), Ok(query.clone()));
        for statement in [
            Statement::Query(query.clone()),
            Statement::Change { verb: Verb::Stop, query: query.clone() },
            Statement::Listing { listing: Listing::Hosts, query },
        ] {
            let text = statement.to_string();
            prop_assert_eq!(parse(&text).statement, Some(statement), "{}", text);
        }
    }

    #[test]
    fn a_source_with_a_diagnostic_has_no_statement(source in source()) {
        for end in (0..=source.len()).filter(|end| source.is_char_boundary(*end)) {
            let (prefix, _) = source.split_at(end);
            for parsed in [parse(prefix), parse_query(prefix)] {
                prop_assert_eq!(parsed.statement.is_some(), parsed.diagnostics.is_empty());
                for found in &parsed.diagnostics {
                    prop_assert!(found.span.start <= found.span.end);
                    prop_assert!(prefix.get(found.span.start..found.span.end).is_some());
                    prop_assert_eq!(found.caret(prefix).lines().count(), 2);
                }
                let mut last = 0;
                for token in &parsed.tokens {
                    prop_assert!(last <= token.span.start && token.span.start < token.span.end);
                    let between = prefix.get(last..token.span.start).unwrap();
                    prop_assert!(between.trim().is_empty());
                    last = token.span.end;
                }
                prop_assert!(prefix.get(last..).unwrap().trim().is_empty());
            }
        }
    }

    #[test]
    fn a_plan_holds_when_its_tree_does(tree in tree(), row in rows()) {
        let query = Query::of(tree.clone());
        prop_assert_eq!(row.matches(&query), naive(&tree, &row) == Some(true), "{}", query);
    }

    #[test]
    fn both_select_what_each_selects(left in tree(), right in tree(), row in rows()) {
        let (left, right) = (Query::of(left), Query::of(right));
        let both = left.clone().and(right.clone());
        prop_assert_eq!(row.matches(&both), row.matches(&left) && row.matches(&right));
        prop_assert_eq!(both.to_string().parse::<Query>(), Ok(both));
    }
}
