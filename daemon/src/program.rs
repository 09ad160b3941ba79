//! Finds the program that a child is to run.
//!
//! A path is taken as it is; a bare name is looked up on the PATH. The Go import paths of the
//! original's clients name a program by their last element. Knows nothing of children.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// There is no such program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// Nothing was named.
    #[error("no program is named")]
    Unnamed,
    /// Nothing is there.
    #[error("cannot find the program `{path}`")]
    Missing {
        /// What was asked for.
        path: String,
    },
    /// The text is the original's, which its clients know.
    #[error("This package is not a binary")]
    NotAProgram {
        /// What was found.
        path: PathBuf,
    },
}

/// Finds the program `path`, with `search` as the PATH; the answer is absolute. Blocks.
///
/// # Errors
/// [`ProgramError`].
pub fn find(path: &str, search: Option<&OsStr>) -> Result<PathBuf, ProgramError> {
    if path.is_empty() {
        return Err(ProgramError::Unnamed);
    }
    let missing = || ProgramError::Missing {
        path: path.to_owned(),
    };
    let asked = Path::new(path);
    if path.contains('/') && asked.exists() {
        let found = std::path::absolute(asked).map_err(|_gone| missing())?;
        return if is_program(&found) {
            Ok(found)
        } else {
            Err(ProgramError::NotAProgram { path: found })
        };
    }
    if asked.is_absolute() {
        return Err(missing());
    }
    let name = asked.file_name().ok_or_else(missing)?;
    std::env::split_paths(search.unwrap_or_default())
        .map(|folder| folder.join(name))
        .find(|candidate| is_program(candidate))
        .and_then(|found| std::path::absolute(found).ok())
        .ok_or_else(missing)
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_names_and_import_paths_are_found() {
        let search = Some(OsStr::new("/no/such:/bin"));
        assert_eq!(find("/bin/sh", None), Ok(PathBuf::from("/bin/sh")));
        assert_eq!(find("sh", search), Ok(PathBuf::from("/bin/sh")));
        assert_eq!(
            find("github.com/example/tools/sh", search),
            Ok(PathBuf::from("/bin/sh"))
        );
    }

    #[test]
    fn what_is_not_there_or_no_program_is_refused() {
        let search = Some(OsStr::new("/bin"));
        let missing = |path: &str| {
            Err(ProgramError::Missing {
                path: path.to_owned(),
            })
        };
        assert_eq!(find("", search), Err(ProgramError::Unnamed));
        for path in ["/no/such", "no-such-program", "..", "/"] {
            if path != "/" {
                assert_eq!(find(path, search), missing(path));
            }
        }
        for path in ["/", "/etc/passwd"] {
            let refused = find(path, search).unwrap_err();
            assert_eq!(refused.to_string(), "This package is not a binary");
        }
    }
}
