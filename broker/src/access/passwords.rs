//! The password file: users and the argon2id hashes of their passwords.
//!
//! The format is described in docs/formats.md. Passwords themselves are in no file, log or message.

use std::collections::BTreeMap;
use std::path::Path;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2};

use super::FileError;

/// First line of the file.
const HEAD: &str = "lastmile-passwords 1";
/// Longest password in bytes: what MQTT can carry.
pub(crate) const MAX_PASSWORD_BYTES: usize = 65_535;

/// Users and their hashes, each in the PHC string format.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Passwords(BTreeMap<String, String>);

/// A password that cannot be hashed.
#[derive(Debug, thiserror::Error)]
#[error("the password cannot be hashed: {0}")]
pub(crate) struct HashError(argon2::password_hash::Error);

impl Passwords {
    /// Reads the text of the file `path`, which is for messages only.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let mut lines = super::lines(text);
        let wrong = |line, message: String| FileError::at(path, line, message);
        if lines.next().is_none_or(|(_, first)| first != HEAD) {
            return Err(wrong(1, format!("the first line is to be `{HEAD}`")));
        }
        let mut users = BTreeMap::new();
        for (number, line) in lines {
            // A hash has no colon, so a user's name may.
            let (user, hash) = line
                .rsplit_once(':')
                .filter(|(user, _)| check_name(user).is_ok())
                .ok_or_else(|| wrong(number, "give a user's name, a colon and a hash".into()))?;
            if !is_argon2id(hash) {
                let message = format!("the hash of {user} is no argon2id string");
                return Err(wrong(number, message));
            }
            if users.insert(user.to_owned(), hash.to_owned()).is_some() {
                return Err(wrong(number, format!("the user {user} is here twice")));
            }
        }
        Ok(Self(users))
    }

    /// Returns the hash of a user's password.
    pub(crate) fn hash_of(&self, user: &str) -> Option<&str> {
        self.0.get(user).map(String::as_str)
    }

    /// Sets a user's hash; tells whether the user is new.
    pub(crate) fn set(&mut self, user: &str, hash: String) -> bool {
        self.0.insert(user.to_owned(), hash).is_none()
    }

    /// Removes a user; tells whether there was one.
    pub(crate) fn remove(&mut self, user: &str) -> bool {
        self.0.remove(user).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the text of the file.
    pub(crate) fn to_text(&self) -> String {
        let lines = self.0.iter().map(|(user, hash)| format!("{user}:{hash}\n"));
        format!("{HEAD}\n{}", lines.collect::<String>())
    }
}

/// Checks a user's name.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 1024 {
        Err("a name has 1 to 1024 bytes")
    } else if name.starts_with('#') || name.trim() != name || name.chars().any(char::is_control) {
        Err("a name has no control characters, no blanks at its ends, and does not begin with #")
    } else {
        Ok(())
    }
}

fn is_argon2id(hash: &str) -> bool {
    let parsed = PasswordHash::new(hash);
    parsed.is_ok_and(|parsed| {
        Algorithm::try_from(parsed.algorithm.as_str()) == Ok(Algorithm::Argon2id)
            && parsed.hash.is_some()
    })
}

/// Hashes a password with a salt of its own. Takes some 50 ms and 19 MiB.
pub(crate) fn hash(password: &[u8]) -> Result<String, HashError> {
    let hashed = Argon2::default().hash_password(password);
    Ok(hashed.map_err(HashError)?.to_string())
}

/// Tells whether `hash` is of `password`. Takes as long as [`hash`], whatever the answer.
pub(crate) fn verify(password: &[u8], hash: &str) -> bool {
    let Ok(parsed) = PasswordHash::new(hash) else {
        return false;
    };
    Argon2::default().verify_password(password, &parsed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_back_and_only_the_right_password_passes() {
        let mut passwords = Passwords::default();
        assert!(passwords.set("truck:7", hash(b"open").unwrap()));
        assert!(passwords.set("ann", hash(b"").unwrap()));
        let text = passwords.to_text();
        assert!(!text.contains("open") && text.contains("$argon2id$v=19$m=19456,t=2,p=1$"));
        let read = Passwords::parse(Path::new("p"), &text).unwrap();
        assert_eq!(read, passwords);
        let hash = read.hash_of("truck:7").unwrap();
        assert!(verify(b"open", hash) && !verify(b"Open", hash) && !verify(b"", hash));
        assert!(read.hash_of("truck").is_none());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let good = hash(b"x").unwrap();
        for (text, expected) in [
            (String::new(), "p:1:"),
            ("users 1".into(), "p:1:"),
            (format!("{HEAD}\nann"), "p:2:"),
            (format!("{HEAD}\n:{good}"), "p:2:"),
            (format!("{HEAD}\nann:secret"), "p:2:"),
            (
                format!("{HEAD}\nann:{}", good.replace("argon2id", "argon2i")),
                "p:2:",
            ),
            (format!("{HEAD}\nann:{good}\n# again\nann:{good}"), "p:4:"),
        ] {
            let error = Passwords::parse(Path::new("p"), &text).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        for name in ["", " a", "a\n", "#a"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
