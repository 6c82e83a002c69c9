//! Identifiers given by clients.
//!
//! An id is 1 to 128 bytes of UTF-8 without control characters. A deliverer's id is also a level of an
//! MQTT topic, so it holds none of `/`, `+` and `#`. Ids are compared byte by byte; integers are
//! accepted on input and kept in decimal.

use std::fmt;

use serde::Serialize;

/// Longest id accepted, in bytes of UTF-8.
pub const MAX_ID_BYTES: usize = 128;

/// Says why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("is empty; give 1 to {MAX_ID_BYTES} bytes")]
    Empty,
    /// The text is longer than [`MAX_ID_BYTES`].
    #[error("has {0} bytes; give at most {MAX_ID_BYTES}")]
    TooLong(usize),
    /// The text holds a character that ids may not hold.
    #[error("holds the character {0:?}, which is not allowed here")]
    Forbidden(char),
}

fn check(text: &str, forbidden: impl Fn(char) -> bool) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong(text.len()));
    }
    match text.chars().find(|&c| c.is_control() || forbidden(c)) {
        Some(c) => Err(IdError::Forbidden(c)),
        None => Ok(()),
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $forbidden:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks and takes a text.
            ///
            /// # Errors
            /// [`IdError`] when the text is empty, too long or holds a forbidden character.
            pub fn new(text: impl Into<Box<str>>) -> Result<Self, IdError> {
                let text = text.into();
                check(&text, $forbidden)?;
                Ok(Self(text))
            }

            /// Returns the id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
    };
}

id_type!(
    /// Identifies an order. Any text of 1 to 128 bytes without control characters.
    OrderId,
    |_| false
);
id_type!(
    /// Identifies a deliverer or vehicle: 1 to 128 bytes without control characters, `/`, `+` or `#`.
    DelivererId,
    |c| matches!(c, '/' | '+' | '#')
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_their_text_and_refuse_what_topics_cannot_carry() {
        assert_eq!(OrderId::new("2024/113").unwrap().as_str(), "2024/113");
        assert_eq!(DelivererId::new("a/b"), Err(IdError::Forbidden('/')));
        assert_eq!(DelivererId::new("+"), Err(IdError::Forbidden('+')));
        assert_eq!(OrderId::new(""), Err(IdError::Empty));
        assert_eq!(OrderId::new("a\0"), Err(IdError::Forbidden('\0')));
        assert_eq!(OrderId::new("x".repeat(129)), Err(IdError::TooLong(129)));
    }
}
