//! The account that a child runs as, by name or number.
//!
//! Reads the system's list of users; `getent` answers for those that are kept elsewhere. Knows
//! nothing of children.

use std::path::Path;
use std::process::{Command, Stdio};

/// The list of users.
const PASSWD: &str = "/etc/passwd";

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// The user's number.
    pub(super) uid: u32,
    /// The number of its first group.
    pub(super) gid: u32,
    name: Option<String>,
    home: Option<String>,
}

/// There is no such user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the user `{user}` is not known on this host")]
pub struct UserError {
    /// The user, as it was given.
    pub user: String,
}

impl Account {
    /// The account of `user`, a name or a number; a number needs no entry. Blocks.
    ///
    /// # Errors
    /// [`UserError`] when there is no such user.
    pub(super) fn find(user: &str) -> Result<Self, UserError> {
        let listed = std::fs::read_to_string(Path::new(PASSWD)).unwrap_or_default();
        listed
            .lines()
            .find_map(|line| Self::read(line, user))
            .or_else(|| asked_elsewhere(user))
            .or_else(|| Self::numbered(user))
            .ok_or_else(|| UserError {
                user: user.to_owned(),
            })
    }

    /// What a login would set.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let name = self.name.as_deref();
        [
            ("USER", name),
            ("LOGNAME", name),
            ("HOME", self.home.as_deref()),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
    }

    /// Reads a line of the list when it is that of `user`.
    fn read(line: &str, user: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = *fields.as_slice() else {
            return None;
        };
        if name != user && uid != user {
            return None;
        }
        Some(Self {
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            name: Some(name.to_owned()),
            home: Some(home.to_owned()),
        })
    }

    fn numbered(user: &str) -> Option<Self> {
        let uid = user.parse().ok()?;
        Some(Self {
            uid,
            gid: uid,
            name: None,
            home: None,
        })
    }
}

fn asked_elsewhere(user: &str) -> Option<Account> {
    let answer = Command::new("getent")
        .args(["passwd", "--", user])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    text.lines().find_map(|line| Account::read(line, user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let line = "web:x:33:34:Web:/srv/www:/bin/false";
        for user in ["web", "33"] {
            let account = Account::read(line, user).unwrap();
            assert_eq!((account.uid, account.gid), (33, 34));
            assert!(account.variables().any(|pair| pair == ("HOME", "/srv/www")));
        }
        assert_eq!(Account::read(line, "we"), None);
        assert_eq!(Account::read("web:x:no", "web"), None);
        assert_eq!(Account::find("0").unwrap().uid, 0);
        assert_eq!(Account::find("1234567").unwrap().gid, 1_234_567);
        assert!(Account::find("no such user").is_err());
    }
}
