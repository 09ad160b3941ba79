//! From keys to commands, mode by mode.
//!
//! Invariants: a clash disables the later binding only and is told; the default keys have none (a
//! test holds that). Pure.

use std::collections::HashMap;

use super::action::{BINDINGS, Binding, Command, Mode};
use super::key::Key;

/// What keys mean so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved {
    /// A command.
    Command(Command),
    /// The beginning of a command's keys.
    Prefix,
    /// Nothing.
    Unbound,
}

/// The keys of every mode.
#[derive(Debug, Clone)]
pub struct Keymap {
    modes: HashMap<Mode, Vec<(Vec<Key>, Command)>>,
    problems: Vec<String>,
}

impl Default for Keymap {
    fn default() -> Self {
        Self::new(BINDINGS)
    }
}

impl Keymap {
    /// The map of these bindings.
    pub fn new(bindings: &[Binding]) -> Self {
        let mut map = Self {
            modes: HashMap::new(),
            problems: Vec::new(),
        };
        for binding in bindings {
            for keys in binding.keys {
                map.add(binding, keys);
            }
        }
        map
    }

    fn add(&mut self, binding: &Binding, words: &str) {
        let keys: Result<Vec<Key>, _> = words.split(' ').map(str::parse).collect();
        let keys = match keys {
            Ok(keys) => keys,
            Err(error) => return self.problems.push(error.to_string()),
        };
        let mode = self.modes.entry(binding.mode).or_default();
        let clash = mode
            .iter()
            .any(|(known, _)| known.starts_with(&keys) || keys.starts_with(known));
        if clash {
            let mode = binding.mode.title();
            self.problems
                .push(format!("key `{words}` has two meanings in `{mode}`"));
        } else {
            mode.push((keys, binding.command));
        }
    }

    /// What `keys`, pressed one after the other, mean in `mode`.
    pub fn resolve(&self, mode: Mode, keys: &[Key]) -> Resolved {
        match (self.resolve_here(mode, keys), mode.otherwise()) {
            (Resolved::Unbound, Some(other)) => self.resolve(other, keys),
            (resolved, _) => resolved,
        }
    }

    fn resolve_here(&self, mode: Mode, keys: &[Key]) -> Resolved {
        let Some(bindings) = self.modes.get(&mode) else {
            return Resolved::Unbound;
        };
        let mut resolved = Resolved::Unbound;
        for (known, command) in bindings {
            if known == keys {
                return Resolved::Command(*command);
            }
            if known.starts_with(keys) {
                resolved = Resolved::Prefix;
            }
        }
        resolved
    }

    /// What was wrong with the bindings; those are left out.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::action::Motion;

    fn keys(words: &str) -> Vec<Key> {
        words.split(' ').map(|word| word.parse().unwrap()).collect()
    }

    #[test]
    fn the_default_keys_do_not_clash() {
        assert_eq!(Keymap::default().problems(), [""; 0]);
    }

    #[test]
    fn keys_resolve_mode_by_mode() {
        let map = Keymap::default();
        assert_eq!(map.resolve(Mode::Table, &keys("g")), Resolved::Prefix);
        assert_eq!(
            map.resolve(Mode::Table, &keys("g g")),
            Resolved::Command(Command::Move(Motion::First))
        );
        assert_eq!(map.resolve(Mode::Table, &keys("g x")), Resolved::Unbound);
        assert_eq!(map.resolve(Mode::Line, &keys("g")), Resolved::Unbound);
    }

    #[test]
    fn no_key_of_the_table_changes_the_cluster() {
        for binding in BINDINGS
            .iter()
            .filter(|binding| binding.mode == Mode::Table)
        {
            assert!(
                !matches!(
                    binding.command,
                    Command::Change(_) | Command::Deploy | Command::Yes
                ),
                "{:?}",
                binding.keys
            );
        }
    }

    #[test]
    fn a_clash_disables_the_later_binding_only() {
        let first = BINDINGS[0];
        let second = Binding {
            command: Command::Quit,
            ..first
        };
        let map = Keymap::new(&[first, second]);
        assert_eq!(map.problems().len(), 1);
        assert_eq!(
            map.resolve(first.mode, &keys("x")),
            Resolved::Command(first.command)
        );
    }
}
