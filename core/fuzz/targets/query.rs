//! Sources of the query language: parsing never fails, and nothing on the way to a screen does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skynet::query::{Grammar, classify, parse, parse_query};

fuzz_target!(|data: &[u8]| {
    let Ok(source) = std::str::from_utf8(data) else {
        return;
    };
    for (parsed, grammar) in [
        (parse(source), Grammar::Statement),
        (parse_query(source), Grammar::Query),
    ] {
        let _incomplete = parsed.is_incomplete();
        for (span, _) in classify(&parsed) {
            assert!(source.get(span.start..span.end).is_some(), "{span:?}");
        }
        for diagnostic in &parsed.diagnostics {
            let span = diagnostic.span;
            assert!(source.get(span.start..span.end).is_some(), "{diagnostic:?}");
        }
        for token in skynet::query::token::lex(source, grammar) {
            let span = token.span;
            assert!(source.get(span.start..span.end).is_some(), "{token:?}");
        }
    }
    if let Err(error) = parse_query(source).into_query() {
        let _caret = error.caret();
    }
    // A query that reads is printed as one that means the same.
    if let Ok(query) = parse_query(source).into_query()
        && let Some(expr) = query.expr()
    {
        let printed = expr.to_string();
        let again = parse_query(&printed)
            .into_query()
            .unwrap_or_else(|error| panic!("`{printed}` does not read: {error}"));
        let again = again.expr().expect("it became empty").to_string();
        assert_eq!(again, printed);
    }
});
