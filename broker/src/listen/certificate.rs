//! The common name in a certificate's subject.
//!
//! Asked only of certificates that were verified, yet reads any bytes without harm: DER is lengths within lengths,
//! and every length is checked against what is there.

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const VERSION: u8 = 0xa0;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
/// 2.5.4.3
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// Returns the common name; `None` when there is none, or more than one, which would be a choice.
pub(super) fn common_name(certificate: &[u8]) -> Option<Box<str>> {
    let (signed, _) = content(SEQUENCE, certificate)?;
    let (mut fields, _) = content(SEQUENCE, signed)?;
    if let Some((_, rest)) = content(VERSION, fields) {
        fields = rest;
    }
    // Serial number, signature's algorithm, issuer, validity.
    for _ in 0..4 {
        fields = any(fields)?.2;
    }
    let (mut subject, _) = content(SEQUENCE, fields)?;
    let mut name = None;
    while !subject.is_empty() {
        let (mut attributes, rest) = content(SET, subject)?;
        subject = rest;
        while !attributes.is_empty() {
            let (attribute, rest) = content(SEQUENCE, attributes)?;
            attributes = rest;
            let (id, value) = content(OBJECT_ID, attribute)?;
            if id == COMMON_NAME {
                let (kind, text, _) = any(value)?;
                if ![UTF8_STRING, PRINTABLE_STRING, IA5_STRING].contains(&kind) || name.is_some() {
                    return None;
                }
                name = Some(str::from_utf8(text).ok()?);
            }
        }
    }
    name.map(Into::into)
}

/// Takes a value of the given kind; returns its content and what follows it.
fn content(kind: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any(bytes)?;
    (found == kind).then_some((content, rest))
}

/// Takes a value; returns its kind, its content and what follows it.
fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, first], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let fold = |sum, byte: &u8| sum << 8 | usize::from(*byte);
            (length.iter().fold(0, fold), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((kind, content, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn certificate(names: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::new(["host".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_common_name_is_found_among_others() {
        let long = "n".repeat(300);
        for name in ["truck-7", "é", &long] {
            let der = certificate(&[
                (DnType::CountryName, "BE"),
                (DnType::OrganizationName, "fleet"),
                (DnType::CommonName, name),
            ]);
            assert_eq!(common_name(&der).as_deref(), Some(name));
        }
        let der = certificate(&[(DnType::OrganizationName, "fleet")]);
        assert_eq!(common_name(&der), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>, cut in 0_usize..400, flip in 0_usize..400) {
            common_name(&bytes);
            let mut der = certificate(&[(DnType::CommonName, "x")]);
            if let Some(byte) = der.get_mut(flip) {
                *byte ^= 0x55;
            }
            der.truncate(cut);
            common_name(&der);
        }
    }
}
