//! The original's spellings, rewritten before parsing: `-service=x`, `-service x`, and filters that
//! stand before the command.
//!
//! Invariants: what stands behind `--` is never touched, and neither are the words of commands that
//! take no selectors; an argument that is no UTF-8 passes through.

use std::ffi::{OsStr, OsString};

/// The names of selectors, old and new.
const SELECTORS: [&str; 14] = [
    "service",
    "services",
    "version",
    "versions",
    "region",
    "regions",
    "host",
    "hosts",
    "port",
    "ports",
    "registered",
    "instance",
    "instances",
    "where",
];

/// Commands that take selectors.
const SELECTING: [&str; 14] = [
    "cli",
    "top",
    "regions",
    "hosts",
    "services",
    "versions",
    "instances",
    "topology",
    "register",
    "unregister",
    "start",
    "stop",
    "restart",
    "deploy",
];

/// Flags in front of the command that have a value of their own.
const WITH_VALUE: [&str; 8] = [
    "--registry",
    "--prefix",
    "--registry-user",
    "--registry-password-file",
    "--registry-ca",
    "--registry-cert",
    "--registry-key",
    "--registry-server-name",
];

/// The arguments as the parser wants them; the first is the program's name.
pub fn modern(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args = args.into_iter().peekable();
    let mut modern: Vec<OsString> = args.next().into_iter().collect();
    // Selectors in front of the command, which move behind it.
    let mut moved = Vec::new();
    while let Some(arg) = args.next() {
        let Some(text) = arg.to_str() else {
            modern.push(arg);
            continue;
        };
        if !text.starts_with('-') || text == "-" {
            let selecting = SELECTING.contains(&text);
            modern.push(arg);
            modern.append(&mut moved);
            if selecting {
                rewrite_rest(args, &mut modern);
            } else {
                modern.extend(args);
            }
            return modern;
        }
        if text == "--" {
            modern.push(arg);
            break;
        }
        let version_flag = text == "--version";
        if let Some(selector) = Selector::read(text).filter(|_| !version_flag) {
            let next = args.peek().map(OsString::as_os_str);
            let (joined, took_next) = selector.with_value(next);
            if took_next {
                args.next();
            }
            moved.push(joined);
            continue;
        }
        let takes_value = WITH_VALUE.contains(&text);
        modern.push(arg);
        if takes_value {
            modern.extend(args.next());
        }
    }
    modern.append(&mut moved);
    modern.extend(args);
    modern
}

/// Rewrites what stands behind a command that selects.
fn rewrite_rest(args: impl Iterator<Item = OsString>, modern: &mut Vec<OsString>) {
    let mut args = args.peekable();
    while let Some(arg) = args.next() {
        if arg == "--" {
            modern.push(arg);
            modern.extend(args);
            return;
        }
        match arg.to_str().and_then(Selector::read) {
            Some(selector) if selector.value.is_some() => modern.push(selector.with_value(None).0),
            Some(selector) if selector.is_switch() => {
                let next = args.peek().map(OsString::as_os_str);
                let (joined, took_next) = selector.with_value(next);
                if took_next {
                    args.next();
                }
                modern.push(joined);
            }
            Some(selector) => modern.push(format!("--{}", selector.name).into()),
            None => modern.push(arg),
        }
    }
}

/// A selector's flag, with one dash or two.
struct Selector<'a> {
    name: &'a str,
    value: Option<&'a str>,
}

impl<'a> Selector<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let body = text.strip_prefix("--").or_else(|| text.strip_prefix('-'))?;
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        SELECTORS.contains(&name).then_some(Self { name, value })
    }

    /// Whether it may stand without a value.
    fn is_switch(&self) -> bool {
        self.name == "registered"
    }

    /// The flag in one word, and whether the next argument became part of it.
    fn with_value(&self, next: Option<&OsStr>) -> (OsString, bool) {
        if let Some(value) = self.value {
            return (format!("--{}={value}", self.name).into(), false);
        }
        let taken = next.filter(|next| !self.is_switch() || is_yes_or_no(next));
        let mut joined = OsString::from(format!("--{}", self.name));
        if let Some(value) = taken {
            joined.push("=");
            joined.push(value);
        }
        (joined, taken.is_some())
    }
}

fn is_yes_or_no(word: &OsStr) -> bool {
    ["yes", "no", "true", "false"]
        .iter()
        .any(|known| word == *known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(given: &str, expected: &str) {
        let args = std::iter::once("sky")
            .chain(given.split_whitespace())
            .map(OsString::from);
        let modern: Vec<String> = modern(args)
            .into_iter()
            .skip(1)
            .map(|arg| arg.into_string().unwrap())
            .collect();
        assert_eq!(modern.join(" "), expected, "{given}");
    }

    #[test]
    fn old_spellings_become_new_ones() {
        check("instances -service=x", "instances --service=x");
        check(
            "instances -service x -o json",
            "instances --service x -o json",
        );
        check("instances -registered true", "instances --registered=true");
        check(
            "instances --registered no --host h",
            "instances --registered=no --host h",
        );
        check(
            "instances -registered -host=h",
            "instances --registered --host=h",
        );
        check("stop -instances=a,b --yes", "stop --instances=a,b --yes");
    }

    #[test]
    fn filters_in_front_move_behind_the_command() {
        check(
            "-service=x -version=2 stop --yes",
            "stop --service=x --version=2 --yes",
        );
        check("-service x instances", "instances --service=x");
        check(
            "--registry http://a:1 -region=r instances -o json",
            "--registry http://a:1 instances --region=r -o json",
        );
    }

    #[test]
    fn what_is_not_a_selector_stays() {
        check("--version", "--version");
        check("--version instances", "--version instances");
        check("instances --version 1", "instances --version 1");
        check("call -service=x", "call -service=x");
        check(
            "deploy ./svc -- -version=1 -l :0",
            "deploy ./svc -- -version=1 -l :0",
        );
        check("daemon -region x", "daemon -region x");
        check("-h", "-h");
        check("", "");
    }
}
