//! Checking a URI without a network, and without letting its password out.

use mongodb::options::ConnectionString;

/// Checks that a text is a MongoDB URI. Asks no network; the message never holds the password.
///
/// # Errors
/// What is wrong with it, and what to give.
pub fn check_uri(uri: &str) -> Result<(), String> {
    const HELP: &str = "give mongodb://HOST[:PORT][,HOST...]/[DATABASE][?options] or mongodb+srv://HOST/[DATABASE]";
    if !uri.starts_with("mongodb://") && !uri.starts_with("mongodb+srv://") {
        return Err(format!(
            "does not begin with mongodb:// or mongodb+srv://; {HELP}"
        ));
    }
    match ConnectionString::parse(uri) {
        Ok(_) => Ok(()),
        Err(error) => {
            let message = without_secrets(&error.kind.to_string(), uri);
            Err(format!("is no MongoDB URI ({message}); {HELP}"))
        }
    }
}

/// Returns the message, or a plain one when any part of the URI's user and password shows in it.
fn without_secrets(message: &str, uri: &str) -> String {
    let after = uri.split_once("://").map_or("", |(_, rest)| rest);
    let user_info = after.rsplit_once('@').map_or("", |(info, _)| info);
    let (_, password) = user_info.split_once(':').unwrap_or(("", user_info));
    // An unescaped character may end the password early for the parser: look for each piece.
    let mut pieces = password.split(|c: char| !c.is_alphanumeric());
    let shows = pieces.any(|piece| !piece.is_empty() && message.contains(piece));
    if shows {
        "its user and password need percent-encoding, or another part is malformed".to_owned()
    } else {
        message.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_of_every_kind_are_taken() {
        for uri in [
            "mongodb://localhost",
            "mongodb://127.0.0.1:27017/fleet",
            "mongodb://user:p%40ss@a:1,b:2,c:3/db?replicaSet=rs0&authSource=admin&tls=true",
            "mongodb+srv://user:secret@cluster.example.net/fleet?retryWrites=true&w=majority",
        ] {
            assert_eq!(check_uri(uri), Ok(()), "{uri}");
        }
    }

    #[test]
    fn what_is_no_uri_is_refused_and_no_password_shows() {
        for uri in [
            "",
            "localhost:27017",
            "http://user:hunter2@localhost",
            "mongodb://",
            "mongodb://user:hunter2@",
            "mongodb://user:hun/ter2@localhost",
            "mongodb://user:hun@ter2:x@localhost",
            "mongodb://user:hunter2%zz@localhost",
            "mongodb://user:hunter2@localhost:99999",
            "mongodb://user:hunter2@localhost/?tls=perhaps",
            "mongodb+srv://user:hunter2@localhost:27017",
        ] {
            let message = check_uri(uri).unwrap_err();
            for piece in ["hunter2", "hun", "ter2"] {
                assert!(!message.contains(piece), "{uri}: {message}");
            }
            assert!(message.contains("mongodb"), "{uri}: {message}");
        }
    }
}
