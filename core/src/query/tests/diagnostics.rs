//! What is said of sources with mistakes, as surfaces draw it.

use super::*;

macro_rules! check {
    ($source:expr, @$expected:literal) => {
        insta::assert_snapshot!(told(&parse($source)), @$expected);
    };
}

#[test]
fn unknown_fields() {
    check!("regoin=east", @r#"
    regoin=east
    ^^^^^^ there is no field `regoin`
    hint: did you mean `region`?
    "#);
    check!("cpu:1 re=x", @r#"
    cpu:1 re=x
    ^^^ there is no field `cpu`
    hint: to search for the text, put it in quotes
    cpu:1 re=x
          ^^ `re` may be `region` or `registered` or `reason` or `requests`
    hint: write more of its name
    "#);
}

#[test]
fn operators_and_kinds() {
    check!("service>1", @r#"
    service>1
           ^ `service` does not take `>`
    hint: try `:` `=` `!=` `~` `!~`
    "#);
    check!("uuid:6f1 state=raedy reg:maybe", @r#"
    uuid:6f1 state=raedy reg:maybe
         ^^^ `6f1` is not the start of a uuid
    hint: at least its first 4 hex digits
    uuid:6f1 state=raedy reg:maybe
                   ^^^^^ `raedy` is not a state
    hint: did you mean `ready`?
    uuid:6f1 state=raedy reg:maybe
                             ^^^^^ `maybe` is neither `yes` nor `no`
    hint: -
    "#);
    check!("version>=1.4*", @r#"
    version>=1.4*
             ^^^^ `>=` takes no `*` and no `?`
    hint: write a whole version, or use `:`
    "#);
    check!("service:=x", @r#"
    service:=x
            ^^ two operators stand side by side
    hint: to compare with such a text, put it in quotes
    "#);
    check!("= 5", @r#"
    = 5
    ^ `=` needs a field before it
    hint: as in `avg=50ms`; to search for it, put it in quotes
    "#);
    check!("service ~ x", @r#"
    service ~ x
            ^ `~` needs a field before it
    hint: as in `service~pay`, without spaces
    "#);
}

#[test]
fn numbers() {
    check!("avg>5x", @r#"
    avg>5x
         ^ `x` is not a unit of `avg`
    hint: try `us` `ms` `s`
    "#);
    check!("uptime>5", @r#"
    uptime>5
           ^ `5` has no unit
    hint: try `s` `m` `h` `d`
    "#);
    check!("clients>5ms port=9004.5 pid=1k", @r#"
    clients>5ms port=9004.5 pid=1k
             ^^ `ms` is not a unit of `clients`
    hint: try `k` `M` `G`
    clients>5ms port=9004.5 pid=1k
                     ^^^^^^ `9004.5` is not a whole number
    hint: -
    clients>5ms port=9004.5 pid=1k
                                 ^ `k` is not a unit of `pid`
    hint: write a whole number
    "#);
    check!("port:9..1 avg>1..2 clients:x", @r#"
    port:9..1 avg>1..2 clients:x
         ^^^^ the range ends before it begins
    hint: write `port:1..9`
    port:9..1 avg>1..2 clients:x
                  ^^^^ `>` takes no range
    hint: write `avg:1..2`
    port:9..1 avg>1..2 clients:x
                               ^ `x` is not a number
    hint: as in `clients:0`
    "#);
}

#[test]
fn regexes() {
    check!("service~(a|b)", @r#"
    service~(a|b)
           ^ a regex with `(` must be quoted
    hint: put it in quotes
    "#);
    check!("service~a|b", @r#"
    service~a|b
            ^^ a regex with `|` must be quoted
    hint: put it in quotes, or a space behind it
    "#);
    check!("service~a{1,2}", @r#"
    service~a{1,2}
            ^^^ bad regex: unclosed counted repetition
    hint: a regex with `|` `(` `)` `&` `,` or a space must be quoted
    "#);
    check!("service~\"[\"", @r#"
    service~"["
            ^^^ bad regex: unclosed character class
    hint: -
    "#);
}

#[test]
fn ends_too_early() {
    check!("service:", @r#"
    service:
           ^ `:` needs a value behind it (incomplete)
    hint: as in `service:payments`
    "#);
    check!("region=a,", @r#"
    region=a,
            ^ `,` needs a value behind it (incomplete)
    hint: write another one, or leave the comma out
    "#);
    check!("avg >", @r#"
    avg >
        ^ `>` needs a value behind it (incomplete)
    hint: as in `avg>500us`
    "#);
    check!("(a or", @r#"
    (a or
    ^ `(` is not closed (incomplete)
    hint: add `)`
    (a or
       ^^ `or` needs a term behind it (incomplete)
    hint: -
    "#);
    check!("\"abc", @r#"
    "abc
    ^^^^ the string is not closed (incomplete)
    hint: add `"`
    "#);
    check!("not", @r#"
    not
    ^^^ `not` needs a term behind it (incomplete)
    hint: -
    "#);
    check!("a and", @r#"
    a and
      ^^^ `and` needs a term behind it (incomplete)
    hint: -
    "#);
    check!("port:1..", @r#"
    port:1..
         ^^^ a range needs two ends (incomplete)
    hint: as in `port:10..20`; for an open one use `>=` or `<=`
    "#);
    check!("service:payments:", @r#"
    service:payments:
            ^^^^^^^^^ `:` needs a version behind it (incomplete)
    hint: as in `service:payments:1.4*`; a name with `:` must be quoted
    "#);
    check!("^", @r#"
    ^
    ^ `^` has nothing to search for (incomplete)
    hint: -
    "#);
}

#[test]
fn misplaced_signs() {
    check!("or a", @r#"
    or a
    ^^ a term is missing before `or`
    hint: -
    "#);
    check!("a and or b", @r#"
    a and or b
      ^^^ `and` needs a term behind it
    hint: -
    "#);
    check!("()", @r#"
    ()
     ^ a term is missing before `)`
    hint: -
    "#);
    check!("a ) b", @r#"
    a ) b
      ^ `)` closes nothing
    hint: to search for it, put it in quotes
    "#);
    check!("a, b", @r#"
    a, b
     ^ `,` does not belong here
    hint: values of a list stand side by side, as in `region=a,b`
    "#);
    check!("region=a, b", @r#"
    region=a, b
            ^ `,` needs a value behind it
    hint: no space after a comma
    "#);
    check!("service: x", @r#"
    service: x
           ^ `:` needs a value behind it
    hint: no space after `:`
    "#);
    check!("a\"b\"", @r#"
    a"b"
    ^ a quote stands within a word
    hint: put a space between them, or the whole in quotes
    "#);
    check!("service=\"b\"c", @r#"
    service="b"c
               ^ the string ends within a word
    hint: put a space behind it, or the whole in quotes
    "#);
    check!("reason:exit(1)", @r#"
    reason:exit(1)
           ^^^^^ a value with `(` must be quoted
    hint: put it in quotes, or a space behind it
    "#);
    check!("@slow", @r#"
    @slow
    ^^^^^ `@slow`: there are no saved queries
    hint: write its terms, or search for the word: `"@slow"`
    "#);
}

#[test]
fn bounds() {
    let deep = format!("{}a{}", "(".repeat(101), ")".repeat(101));
    check!(&deep, @r#"
    (((((((((((((((((((((((((((((((((((((((((((((((((((a))))))))))))))))))))))))))))))))))))))))))))))))
                                                      ^ nested deeper than 100
    hint: -
    "#);
    assert!(
        parse(&format!("{}a{}", "(".repeat(100), ")".repeat(100)))
            .statement
            .is_some()
    );
    let deep = "!".repeat(60_000);
    assert_eq!(parse(&deep).diagnostics.len(), 1);
    let long = "a ".repeat(40_000);
    assert_eq!(
        parse(&long).diagnostics[0].message,
        "longer than 65536 bytes"
    );
    let regexes = "service~a ".repeat(65);
    assert_eq!(
        parse(&regexes).diagnostics[0].message,
        "more than 64 regexes"
    );
}
