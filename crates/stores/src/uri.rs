//! A MongoDB URI as people may see it.

/// Returns a URI without user, password and options: `mongodb://***@host:27017/database`.
///
/// Whatever is not plainly of that form comes back as `***`, because a password with an unescaped `/`, `?`
/// or `@` would otherwise be taken for a host.
pub fn shown_uri(uri: &str) -> String {
    strict(uri).unwrap_or_else(|| "***".to_owned())
}

fn strict(uri: &str) -> Option<String> {
    let (scheme, rest) = uri.trim().split_once("://")?;
    if !["mongodb", "mongodb+srv"].contains(&scheme) {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    if after.contains('@') {
        return None;
    }
    let (user, hosts) = match authority.split_once('@') {
        Some((_, hosts)) => ("***@", hosts),
        None => ("", authority),
    };
    if hosts.contains('@') || !hosts.split(',').all(is_host) {
        return None;
    }
    let path = after.strip_prefix('/').unwrap_or_default();
    let database = path.split('?').next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if !database.chars().all(plain) || after.contains('#') {
        return None;
    }
    let slash = if database.is_empty() { "" } else { "/" };
    Some(format!("{scheme}://{user}{hosts}{slash}{database}"))
}

/// Tells whether a text is a host, with or without a numeric port.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, "")) => (name, None),
            Some((name, port)) => (name, port.strip_prefix(':')),
            None => return false,
        },
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let in_name = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    !name.is_empty()
        && name.chars().all(in_name)
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_well_formed_is_shown_without_secrets() {
        for (uri, shown) in [
            ("mongodb://h", "mongodb://h"),
            (
                "mongodb://ann:s3cret@h:27017/db",
                "mongodb://***@h:27017/db",
            ),
            (
                "mongodb://ann:s3cret@a:1,b:2,[::1]:3/db?authSource=admin&proxyPassword=s3cret",
                "mongodb://***@a:1,b:2,[::1]:3/db",
            ),
            (
                "mongodb+srv://ann:s3cret@x.example.org",
                "mongodb+srv://***@x.example.org",
            ),
            (
                "mongodb://h/?tlsCertificateKeyFilePassword=s3cret",
                "mongodb://h",
            ),
        ] {
            assert_eq!(shown_uri(uri), shown);
        }
    }

    #[test]
    fn what_is_not_is_hidden_whole() {
        for uri in [
            "",
            "s3cret",
            "postgres://ann:s3cret@h",
            "mongodb://ann:s3/cret@h/db",
            "mongodb://ann:s3?cret@h/db",
            "mongodb://ann:s3#cret@h/db",
            "mongodb://ann:s3@cret@h/db",
            "mongodb://ann:s3cret",
            "mongodb://h/db?authMechanismProperties=TOKEN:a@b",
            "mongodb://ann:s3cret@/db",
        ] {
            assert_eq!(shown_uri(uri), "***", "{uri}");
        }
    }
}
