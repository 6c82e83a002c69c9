//! Printing a log file: its last lines, and what comes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use service::{BoxError, Context};

use crate::print;

/// How often a followed log is looked at.
const MOMENT: Duration = Duration::from_millis(200);
/// The last lines are looked for in so much of the file's end.
const TAIL_BYTES: u64 = 8 << 20;
/// Read at once while following.
const CHUNK_BYTES: u64 = 1 << 20;

/// Prints the last lines of a file, and what is added to it while `follow` is set and no stop is asked for.
pub(crate) async fn print(
    path: &Path,
    lines: usize,
    follow: bool,
    context: &Context,
) -> Result<(), BoxError> {
    let open = || match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("there is no log at {} yet", path.display()).into())
        }
        opened => opened.map_err(BoxError::from),
    };
    let mut file = open()?;
    let end = file.metadata()?.len();
    let content = read(&mut file, end.saturating_sub(TAIL_BYTES), TAIL_BYTES)?;
    write(last_lines(&content, lines))?;
    let mut reached = end;
    while follow && !context.tasks.is_stopping() {
        let content = read(&mut file, reached, CHUNK_BYTES)?;
        reached += content.len() as u64;
        write(&content)?;
        if !content.is_empty() {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(MOMENT) => {}
            () = context.tasks.stopped() => {}
        }
        // A start moves a long log aside and begins another.
        let is_another = std::fs::metadata(path)
            .is_ok_and(|new| file.metadata().is_ok_and(|old| old.ino() != new.ino()));
        if is_another {
            (file, reached) = (open()?, 0);
        }
    }
    Ok(())
}

fn read(file: &mut File, from: u64, limit: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut content = Vec::new();
    file.take(limit).read_to_end(&mut content)?;
    Ok(content)
}

fn write(content: &[u8]) -> Result<(), BoxError> {
    print::out(|to| Ok(to.write_all(content)?))
}

/// Returns the last lines of a text; a line without its end counts, too.
fn last_lines(content: &[u8], lines: usize) -> &[u8] {
    let body = content.strip_suffix(b"\n").unwrap_or(content);
    let mut ends = (0..body.len()).rev().filter(|at| body[*at] == b'\n');
    let from = match lines.checked_sub(1) {
        None => content.len(),
        Some(before) => ends.nth(before).map_or(0, |at| at + 1),
    };
    &content[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_taken_whether_the_last_has_an_end_or_not() {
        for (content, lines, expected) in [
            ("", 3, ""),
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\n", 9, "a\nb\n"),
            ("a\nb\n", 0, ""),
            ("\n\n\n", 2, "\n\n"),
        ] {
            let last = last_lines(content.as_bytes(), lines);
            assert_eq!(last, expected.as_bytes(), "{content:?} {lines}");
        }
    }
}
