//! Query and path parameters: read strictly, refused by name with what to give instead.
//!
//! A parameter that the route does not know, or one given twice, is an error rather than ignored: a
//! misspelt `from` would otherwise answer with all of history.

use std::borrow::Cow;

use axum::extract::{FromRequestParts, Path};
use axum::http::Uri;
use axum::http::request::Parts;
use model::{DelivererId, OrderId, UtcMicros};

use crate::error::ApiError;

/// Items in a list's answer when the client does not say.
pub(crate) const DEFAULT_LIMIT: usize = 1_000;
/// Most items a client may ask for at once: some 3 MB of JSON.
pub(crate) const MAX_LIMIT: usize = 10_000;

/// The query of one request.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    /// Reads the query of `uri`, of which only the `known` parameters may be given, each once.
    pub(crate) fn parse(uri: &'a Uri, known: &[&str]) -> Result<Self, ApiError> {
        let text = uri.query().unwrap_or_default();
        let pairs: Vec<_> = form_urlencoded::parse(text.as_bytes()).collect();
        for (at, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&&**name) {
                let detail = if known.is_empty() {
                    format!("{name:?} is not known; this route takes no parameters")
                } else {
                    format!(
                        "{name:?} is not known; this route takes {}",
                        known.join(", ")
                    )
                };
                return Err(invalid(name, detail));
            }
            if pairs.iter().take(at).any(|(earlier, _)| earlier == name) {
                return Err(invalid(
                    name,
                    format!("{name} is given twice; give it once"),
                ));
            }
        }
        Ok(Self { pairs })
    }

    /// Returns a parameter's text, when it is given and not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.pairs.iter().find(|(known, _)| known == name)?;
        (!value.is_empty()).then_some(&**value)
    }

    /// Reads an instant: RFC 3339, or epoch seconds, milliseconds or microseconds.
    pub(crate) fn instant(&self, name: &str) -> Result<Option<UtcMicros>, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let number = || UtcMicros::from_epoch_number(text.parse().ok()?);
        // An offset's `+` that was not percent-encoded arrives as a blank.
        let offset = || UtcMicros::parse(&text.replace(' ', "+"));
        match UtcMicros::parse(text).or_else(number).or_else(offset) {
            Some(instant) => Ok(Some(instant)),
            None => Err(invalid(
                name,
                format!(
                    "{name} is {text:?}; give RFC 3339 (2026-01-02T03:04:05Z) or epoch seconds"
                ),
            )),
        }
    }

    /// Reads `limit`, from 1 to [`MAX_LIMIT`].
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = self.text("limit") else {
            return Ok(DEFAULT_LIMIT);
        };
        match text.parse() {
            Ok(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
            _ => Err(invalid(
                "limit",
                format!("limit is {text:?}; give an integer from 1 to {MAX_LIMIT}"),
            )),
        }
    }

    /// Returns `cursor`, the place where the page before this one ended.
    pub(crate) fn cursor(&self) -> Option<String> {
        self.text("cursor").map(str::to_owned)
    }

    /// Reads one word of a fixed set.
    pub(crate) fn word<T: std::str::FromStr>(
        &self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, ApiError> {
        self.text(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    invalid(name, format!("{name} is {text:?}; give one of {expected}"))
                })
            })
            .transpose()
    }
}

/// Names a parameter that cannot be used.
pub(crate) fn invalid(parameter: &str, detail: impl Into<String>) -> ApiError {
    ApiError::InvalidParameter {
        parameter: parameter.to_owned(),
        detail: detail.into(),
    }
}

/// The id in a path, percent-decoded and checked.
#[derive(Debug)]
pub(crate) struct IdPath<T>(pub(crate) T);

/// An id that stands in a path.
pub(crate) trait PathId: Sized {
    /// The name the path gives it.
    const NAME: &'static str;
    /// Checks the text.
    fn from_text(text: String) -> Result<Self, model::id::IdError>;
}

impl PathId for OrderId {
    const NAME: &'static str = "order_id";
    fn from_text(text: String) -> Result<Self, model::id::IdError> {
        Self::new(text)
    }
}

impl PathId for DelivererId {
    const NAME: &'static str = "deliverer_id";
    fn from_text(text: String) -> Result<Self, model::id::IdError> {
        Self::new(text)
    }
}

impl<S: Send + Sync, T: PathId> FromRequestParts<S> for IdPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| {
                invalid(
                    T::NAME,
                    format!("{} is not UTF-8 after percent-decoding", T::NAME),
                )
            })?;
        T::from_text(text)
            .map(Self)
            .map_err(|error| invalid(T::NAME, format!("{} {error}", T::NAME)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail<T: std::fmt::Debug>(outcome: Result<T, ApiError>) -> (String, String) {
        match outcome {
            Err(ApiError::InvalidParameter { parameter, detail }) => (parameter, detail),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parameters_are_read_or_named() {
        let uri: Uri = "/x?from=2026-01-02T03:04:05%2B01:00&to=1767322800&limit=7&cursor="
            .parse()
            .unwrap();
        let query = Query::parse(&uri, &["from", "to", "limit", "cursor"]).unwrap();
        let from = query.instant("from").unwrap().unwrap();
        assert_eq!(from.to_string(), "2026-01-02T02:04:05.000Z");
        assert_eq!(
            query.instant("to").unwrap().unwrap().to_string(),
            "2026-01-02T03:00:00.000Z"
        );
        assert_eq!((query.limit().unwrap(), query.cursor()), (7, None));
        assert_eq!(detail(Query::parse(&uri, &["to"])).0, "from");
    }

    #[test]
    fn a_plus_that_was_not_encoded_is_still_an_offset() {
        let uri: Uri = "/x?from=2026-01-02T03:04:05+01:00".parse().unwrap();
        let query = Query::parse(&uri, &["from"]).unwrap();
        let from = query.instant("from").unwrap().unwrap();
        assert_eq!(from.to_string(), "2026-01-02T02:04:05.000Z");
    }

    #[test]
    fn what_cannot_be_used_says_what_to_give() {
        for (uri, name) in [
            ("/x?limit=0", "limit"),
            ("/x?limit=10001", "limit"),
            ("/x?limit=-1", "limit"),
            ("/x?limit=ten", "limit"),
        ] {
            let uri: Uri = uri.parse().unwrap();
            let (parameter, detail) =
                detail(Query::parse(&uri, &["limit"]).and_then(|q| q.limit()));
            assert_eq!(parameter, name);
            assert!(detail.contains("1 to 10000"), "{detail}");
        }
        let uri: Uri = "/x?from=yesterday".parse().unwrap();
        let from = Query::parse(&uri, &["from"]).unwrap().instant("from");
        assert!(detail(from).1.contains("RFC 3339"));
        let uri: Uri = "/x?limit=1&limit=2".parse().unwrap();
        assert!(detail(Query::parse(&uri, &["limit"])).1.contains("twice"));
    }
}
