//! The rules of ARCHITECTURE.md that a search can check, over every source file of the workspace.

use std::path::{Path, PathBuf};

/// Production lines that a file may have: above, a second concept is hiding in it.
const MOST_LINES: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// Every `.rs` file below the three packages, by its path from the root.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![
        root().join("core"),
        root().join("daemon"),
        root().join("console"),
    ];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                files.push((name, text));
            }
        }
    }
    assert!(files.len() > 50, "the sources were not found");
    files.sort();
    files
}

fn production(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text)
}

#[track_caller]
fn none(what: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{what}:\n{}", offenders.join("\n"));
}

#[test]
fn every_file_opens_with_its_purpose() {
    let bare: Vec<String> = sources()
        .into_iter()
        .filter(|(name, text)| !name.ends_with("/tests.rs") && !text.starts_with("//! "))
        .map(|(name, _)| name)
        .collect();
    none("these files do not say what they are for", &bare);
}

#[test]
fn no_file_hides_a_second_concept() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|(name, _)| !name.contains("/tests/"))
        .map(|(name, text)| (name, production(&text).lines().count()))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    none("these files are too long", &long);
}

#[test]
fn boundaries_hold() {
    // What may be named only where: the word, and the beginnings of the paths that may name it.
    let rules: [(&str, &[&str]); 5] = [
        (
            "etcd_client",
            &[
                "core/src/registry/",
                "core/src/testing",
                "core/tests/",
                "core/benches/registry",
            ],
        ),
        (
            "crossterm::",
            &[
                "console/src/tui",
                "console/src/shell",
                "console/src/theme",
                "console/tests/",
            ],
        ),
        ("reedline::", &["console/src/shell", "console/tests/"]),
        (
            "tokio::process",
            &[
                "daemon/src/process",
                "core/tests/",
                "daemon/tests/",
                "console/tests/",
                "core/src/testing",
            ],
        ),
        ("unbounded_channel", &[]),
    ];
    let mut offenders = Vec::new();
    for (name, text) in sources() {
        if name == "core/tests/it/tidy.rs" {
            continue;
        }
        for (word, allowed) in rules {
            let named = text
                .lines()
                .any(|line| !line.trim_start().starts_with("//") && line.contains(word));
            if named && !allowed.iter().any(|start| name.starts_with(start)) {
                offenders.push(format!("{name} names `{word}`"));
            }
        }
    }
    none("these files reach across a boundary", &offenders);
}

#[test]
fn nothing_is_left_for_later() {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("HA", "CK"),
    ];
    let mut offenders = Vec::new();
    for (name, text) in sources() {
        for (index, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                offenders.push(format!("{name}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    none("these lines put something off", &offenders);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut pages = vec![root().join("README.md"), root().join("ARCHITECTURE.md")];
    let docs = std::fs::read_dir(root().join("docs")).unwrap();
    pages.extend(
        docs.map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "md")),
    );
    let mut dead = Vec::new();
    let mut n_links = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        let ends = text.split("](").skip(1);
        for target in ends.filter_map(|end| Some(end.split_once(')')?.0)) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            n_links += 1;
            if !page.with_file_name(file).exists() {
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(n_links > 5, "the links were not found");
    none("these links lead nowhere", &dead);
}
