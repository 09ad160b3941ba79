//! The lexer: a source cut into tokens with their places.
//!
//! Invariants: lexing never fails; tokens do not overlap and stand in order; what lies between them
//! is white space only. It knows where a comparison begins (a name with an operator behind it), and
//! so that a value may hold what would be an operator elsewhere; it does not know which fields exist.
#![warn(clippy::indexing_slicing)]

pub use super::diagnostic::Span;
use super::schema::{Flag, Grammar, Listing, Op, Verb};

/// A piece of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub kind: TokenKind,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// The word of a listing, at the start of a statement.
    Listing(Listing),
    /// The word of a change, at the start of a statement.
    Verb(Verb),
    /// `(`.
    Open,
    /// `)`.
    Close,
    /// `and` or `&`.
    And,
    /// `or` or `|`.
    Or,
    /// `not` or `!`.
    Not,
    /// The name before an operator.
    Field,
    /// An operator; without a field before it when it stands where a term should.
    Operator(Op),
    /// A value that is not quoted.
    Value,
    /// A string in quotes: a value, or a term of its own.
    Quoted {
        /// Whether the closing quote is there.
        closed: bool,
    },
    /// `,` between values.
    Comma,
    /// A flag.
    Flag(Flag),
    /// `@name`.
    Saved,
    /// A fuzzy word with its signs.
    Word,
}

/// Whether a word or a value ends before `letter`.
pub(crate) fn ends_word(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, ',' | '"' | '(' | ')' | '|' | '&')
}

/// Cuts `source` into tokens.
pub fn lex(source: &str, grammar: Grammar) -> Vec<Token> {
    let mut lexer = Lexer {
        source,
        at: 0,
        tokens: Vec::new(),
    };
    lexer.skip_space();
    if grammar == Grammar::Statement {
        lexer.start_of_statement();
    }
    loop {
        lexer.skip_space();
        let Some(first) = lexer.rest().chars().next() else {
            return lexer.tokens;
        };
        lexer.term_or_sign(first);
    }
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn push(&mut self, length: usize, kind: TokenKind) {
        let span = Span::new(self.at, self.at + length);
        self.at = span.end;
        self.tokens.push(Token { span, kind });
    }

    /// The length of what comes next up to the end of a word.
    fn word_length(&self) -> usize {
        let rest = self.rest();
        rest.find(ends_word).unwrap_or(rest.len())
    }

    /// The length of the name that comes next, and the operator behind it with the white space
    /// between them: then it is a comparison and not a word.
    fn comparison(&self) -> Option<(usize, usize, Op)> {
        let rest = self.rest();
        let named = |letter: char| letter.is_alphanumeric() || letter == '_';
        if !rest.starts_with(char::is_alphabetic) {
            return None;
        }
        let length = rest.find(|letter| !named(letter)).unwrap_or(rest.len());
        let behind = rest.get(length..).unwrap_or_default();
        let trimmed = behind.trim_start();
        let space = behind.len() - trimmed.len();
        let op = Op::at_start_of(trimmed)?;
        (space == 0 || op.may_be_spaced()).then_some((length, space, op))
    }

    fn start_of_statement(&mut self) {
        if self.comparison().is_some() {
            return;
        }
        let length = self.word_length();
        let word = self.rest().get(..length).unwrap_or_default();
        let listing = Listing::ALL
            .into_iter()
            .find(|listing| listing.as_str() == word);
        let verb = Verb::ALL.into_iter().find(|verb| verb.as_str() == word);
        if let Some(kind) = listing
            .map(TokenKind::Listing)
            .or(verb.map(TokenKind::Verb))
        {
            self.push(length, kind);
        }
    }

    fn term_or_sign(&mut self, first: char) {
        let stray = Op::at_start_of(self.rest());
        match first {
            '(' => self.push(1, TokenKind::Open),
            ')' => self.push(1, TokenKind::Close),
            '|' => self.push(1, TokenKind::Or),
            '&' => self.push(1, TokenKind::And),
            ',' => self.push(1, TokenKind::Comma),
            '"' => self.quoted(),
            _ => match (stray, self.comparison()) {
                (Some(op), _) => self.push(op.as_str().len(), TokenKind::Operator(op)),
                (None, _) if first == '!' => self.push(1, TokenKind::Not),
                (None, Some((length, space, op))) => {
                    self.push(length, TokenKind::Field);
                    self.at += space;
                    self.push(op.as_str().len(), TokenKind::Operator(op));
                    if op.may_be_spaced() {
                        self.skip_space();
                    }
                    self.values();
                }
                (None, None) => self.word(),
            },
        }
    }

    fn values(&mut self) {
        loop {
            if self.rest().starts_with('"') {
                self.quoted();
            } else {
                let length = self.word_length();
                if length > 0 {
                    self.push(length, TokenKind::Value);
                }
            }
            if !self.rest().starts_with(',') {
                return;
            }
            self.push(1, TokenKind::Comma);
        }
    }

    fn quoted(&mut self) {
        let mut escaped = false;
        let closing = self.rest().char_indices().skip(1).find(|(_, letter)| {
            let closes = *letter == '"' && !escaped;
            escaped = *letter == '\\' && !escaped;
            closes
        });
        match closing {
            Some((at, _)) => self.push(at + 1, TokenKind::Quoted { closed: true }),
            None => self.push(self.rest().len(), TokenKind::Quoted { closed: false }),
        }
    }

    fn word(&mut self) {
        let length = self.word_length();
        let word = self.rest().get(..length).unwrap_or_default();
        let kind = match word {
            "and" | "AND" => TokenKind::And,
            "or" | "OR" => TokenKind::Or,
            "not" | "NOT" => TokenKind::Not,
            _ if word.starts_with('@') => TokenKind::Saved,
            _ => Flag::named(word).map_or(TokenKind::Word, TokenKind::Flag),
        };
        self.push(length, kind);
    }
}

/// What a quoted token says: without its quotes, `\"` and `\\` resolved. Any other backslash stands
/// for itself, so that a regex in quotes reads as usual.
pub(crate) fn unquote(quoted: &str) -> String {
    let inner = quoted.strip_prefix('"').unwrap_or(quoted);
    let mut text = String::with_capacity(inner.len());
    let mut letters = inner.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => match letters.next_if(|next| matches!(next, '"' | '\\')) {
                Some(next) => text.push(next),
                None => text.push('\\'),
            },
            _ => text.push(letter),
        }
    }
    text
}

/// `text` in quotes, so that [`unquote`] gives it back.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &[&str]) {
        let tokens: Vec<String> = lex(source, Grammar::Statement)
            .into_iter()
            .map(|token| {
                let kind = format!("{:?}", token.kind);
                let kind = kind.split(['(', ' ']).next().unwrap_or_default().to_owned();
                format!("{kind} {}", token.span.of(source))
            })
            .collect();
        assert_eq!(tokens, expected, "{source}");
    }

    #[test]
    fn values_end_where_terms_do() {
        check(
            r#"service:pay*,"a b" !=x"#,
            &[
                "Field service",
                "Operator :",
                "Value pay*",
                "Comma ,",
                "Quoted \"a b\"",
                "Operator !=",
                "Word x",
            ],
        );
        check(
            "(avg>=5ms|!x)",
            &[
                "Open (",
                "Field avg",
                "Operator >=",
                "Value 5ms",
                "Or |",
                "Not !",
                "Word x",
                "Close )",
            ],
        );
        check("a = b", &["Field a", "Operator =", "Value b"]);
        check("a : b", &["Word a", "Operator :", "Word b"]);
    }

    #[test]
    fn an_address_is_a_word() {
        check("10.0.17.4:9004", &["Word 10.0.17.4:9004"]);
        check("us-east-1", &["Word us-east-1"]);
    }

    #[test]
    fn only_the_first_word_is_a_statement() {
        check("stop stop", &["Verb stop", "Word stop"]);
        check("instances reg", &["Listing instances", "Flag reg"]);
        check("start>5", &["Field start", "Operator >", "Value 5"]);
        check("instances-x", &["Word instances-x"]);
    }

    #[test]
    fn quotes_keep_other_backslashes() {
        for text in ["", "a\"b", "\\", "\\d+", "a\\\\b", "tail\\"] {
            assert_eq!(unquote(&quote(text)), text);
        }
        assert_eq!(unquote(r#""\d\"x""#), r#"\d"x"#);
        check(r#""a\\" b"#, &[r#"Quoted "a\\""#, "Word b"]);
        check(r#""a\" b"#, &[r#"Quoted "a\" b"#]);
    }
}
