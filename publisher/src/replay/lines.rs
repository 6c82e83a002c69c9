//! Reads lines from a file or stdin, plain or gzip.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

/// Longest line taken, in bytes: a broker would not take a longer message either.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// The file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be read", path.display())]
pub(super) struct ReadError {
    path: PathBuf,
    source: io::Error,
}

/// The lines of a file, without their ends.
pub(super) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    failed: bool,
}

/// Opens a file; `-` is stdin. Whether it is gzip is told by its first two bytes.
pub(super) fn open(path: &Path) -> Result<Lines, ReadError> {
    let error = |source| ReadError {
        path: path.to_owned(),
        source,
    };
    let input: Box<dyn Read + Send> = if path.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(error)?)
    };
    let mut input = BufReader::with_capacity(256 * 1024, input);
    let gzip = input.fill_buf().map_err(error)?.starts_with(&[0x1f, 0x8b]);
    let reader: Box<dyn BufRead + Send> = if gzip {
        Box::new(BufReader::with_capacity(
            256 * 1024,
            MultiGzDecoder::new(input),
        ))
    } else {
        Box::new(input)
    };
    Ok(Lines {
        path: path.to_owned(),
        reader,
        failed: false,
    })
}

impl Iterator for Lines {
    type Item = Result<Vec<u8>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let mut line = Vec::new();
        let limit = MAX_LINE_BYTES as u64 + 1;
        let read = self
            .reader
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut line);
        let outcome = match read {
            Ok(0) => return None,
            Ok(_) if line.len() > MAX_LINE_BYTES => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a line is longer than {MAX_LINE_BYTES} bytes"),
            )),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        Some(match outcome {
            Ok(()) => {
                line.truncate(line.trim_ascii_end().len());
                Ok(line)
            }
            Err(source) => {
                self.failed = true;
                Err(ReadError {
                    path: self.path.clone(),
                    source,
                })
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn plain_and_gzip_read_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let text = b"{\"a\":1}\r\n\n{\"b\":2}";
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text).unwrap();
        for content in [text.to_vec(), gzip.finish().unwrap()] {
            let path = directory.path().join("events");
            std::fs::write(&path, content).unwrap();
            let lines: Result<Vec<_>, _> = open(&path).unwrap().collect();
            assert_eq!(lines.unwrap(), [&b"{\"a\":1}"[..], b"", b"{\"b\":2}"]);
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        std::fs::write(&path, vec![b'x'; MAX_LINE_BYTES + 1]).unwrap();
        let lines: Vec<_> = open(&path).unwrap().collect();
        assert!(lines.len() == 1 && lines[0].is_err());
    }
}
