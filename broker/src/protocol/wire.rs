//! Reading MQTT's elementary types from bytes, in order and without allocation.
//!
//! Invariant: nothing is read beyond the end, and a text is UTF-8 without NUL.

use super::Violation;

/// Bytes that are read from the front.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wire<'a>(pub(crate) &'a [u8]);

impl<'a> Wire<'a> {
    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Refuses what is left.
    ///
    /// # Errors
    /// When there is something left.
    pub(crate) fn end(self) -> Result<(), Violation> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Violation::Malformed)
        }
    }

    /// Reads so many bytes.
    ///
    /// # Errors
    /// When there are fewer; so do all that follow.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Violation> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Violation::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Violation::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Violation> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn two(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn four(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_be_bytes)
    }

    /// Reads a variable byte integer, which must take as few bytes as it can [MQTT-1.5.5-1].
    pub(crate) fn variable(&mut self) -> Result<u32, Violation> {
        let mut value = 0;
        for place in 0..4 {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return if byte == 0 && place > 0 {
                    Err(Violation::Malformed)
                } else {
                    Ok(value)
                };
            }
        }
        Err(Violation::Malformed)
    }

    /// Reads bytes with a length of two bytes in front.
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], Violation> {
        let len = self.two()?;
        self.take(usize::from(len))
    }

    /// Reads a text.
    pub(crate) fn text(&mut self) -> Result<&'a str, Violation> {
        let text = str::from_utf8(self.binary()?).map_err(|_| Violation::Text)?;
        if text.contains('\0') {
            return Err(Violation::Text);
        }
        Ok(text)
    }

    /// Reads properties with their length in front.
    pub(crate) fn properties(&mut self) -> Result<&'a [u8], Violation> {
        let len = self.variable()?;
        self.take(usize::try_from(len).map_err(|_| Violation::Malformed)?)
    }
}

/// Appends a text, or as much of it as 16 bits of length allow.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = text.get(..text.floor_char_boundary(usize::from(u16::MAX)));
    let text = text.unwrap_or_default();
    let len = u16::try_from(text.len()).unwrap_or_default();
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::frame::put_length;
    use super::*;

    #[test]
    fn variable_integers_are_read_in_their_shortest_form_only() {
        for value in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            2_097_151,
            2_097_152,
            268_435_455,
        ] {
            let mut bytes = Vec::new();
            put_length(&mut bytes, value);
            let mut wire = Wire(&bytes);
            assert_eq!(wire.variable().map(|read| read as usize), Ok(value));
            assert!(wire.is_empty());
        }
        let wrong: [&[u8]; 5] = [&[], &[0x80], &[0x80, 0], &[0xff, 0x80, 0], &[0xff; 4]];
        for wrong in wrong {
            assert_eq!(
                Wire(wrong).variable(),
                Err(Violation::Malformed),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn texts_are_utf_8_without_nul() {
        assert_eq!(Wire(b"\0\x02ab").text(), Ok("ab"));
        assert_eq!(Wire(b"\0\x03ab").text(), Err(Violation::Malformed));
        assert_eq!(Wire(b"\0\x01\0").text(), Err(Violation::Text));
        // A surrogate, which UTF-8 must not encode [MQTT-1.5.4-1].
        assert_eq!(Wire(b"\0\x03\xed\xa0\x80").text(), Err(Violation::Text));
        // A zero width no-break space stays what it is [MQTT-1.5.4-3].
        assert_eq!(Wire(b"\0\x03\xef\xbb\xbf").text(), Ok("\u{feff}"));
    }
}
