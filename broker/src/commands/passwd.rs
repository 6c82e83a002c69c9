//! Users and their passwords.
//!
//! The file is replaced as a whole, so a broker that reads it again never sees half of it, and is readable by its owner
//! only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use service::{BoxError, Context, Problems};

use crate::access::passwords::{MAX_PASSWORD_BYTES, Passwords, check_name, hash};

pub(super) async fn run(
    file: &Path,
    user: &str,
    delete: bool,
    context: &Context,
) -> Result<(), BoxError> {
    if let Err(message) = check_name(user) {
        return Err(Problems::one("user", message).into());
    }
    let mut passwords = read(file)?;
    let done = if delete {
        if !passwords.remove(user) {
            return Err(format!("{} has no user {user}", file.display()).into());
        }
        "removed"
    } else {
        let password = tokio::select! {
            password = ask(user) => password?,
            () = context.tasks.stopped() => return Err("interrupted".into()),
        };
        let hashed = tokio::task::spawn_blocking(move || hash(&password)).await??;
        if passwords.set(user, hashed) {
            "added"
        } else {
            "changed"
        }
    };
    write(file, &passwords)?;
    let (count, file) = (passwords.len(), file.display());
    super::print(&format!("{user}: {done}; {file} has {count} users\n"))?;
    Ok(())
}

fn read(file: &Path) -> Result<Passwords, BoxError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Passwords::parse(file, &text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Passwords::default()),
        Err(error) => Err(crate::FileError::read(file, error).into()),
    }
}

fn write(file: &Path, passwords: &Passwords) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new: PathBuf = file.with_file_name(name);
    let written = write_to(&new, passwords).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        // What matters is the error before.
        drop(fs::remove_file(&new));
        return written;
    }
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn write_to(path: &Path, passwords: &Passwords) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(passwords.to_text().as_bytes())?;
    file.sync_all()
}

/// Asks for a password: at a terminal twice and unseen, else it is the first line of stdin.
async fn ask(user: &str) -> Result<Vec<u8>, BoxError> {
    if !isatty(io::stdin()) {
        return line().await;
    }
    let _quiet = Quiet::begin()?;
    prompt(&format!("Password of {user}: "))?;
    let first = line().await?;
    prompt("\nOnce more: ")?;
    let second = line().await?;
    prompt("\n")?;
    if first == second {
        Ok(first)
    } else {
        Err("the two are not the same; nothing was changed".into())
    }
}

fn prompt(text: &str) -> io::Result<()> {
    let mut stderr = io::stderr().lock();
    stderr.write_all(text.as_bytes())?;
    stderr.flush()
}

async fn line() -> Result<Vec<u8>, BoxError> {
    let read = || {
        let mut line = Vec::new();
        let limit = u64::try_from(MAX_PASSWORD_BYTES + 2).unwrap_or(u64::MAX);
        io::stdin()
            .lock()
            .take(limit)
            .read_until(b'\n', &mut line)?;
        io::Result::Ok(line)
    };
    let mut line = tokio::task::spawn_blocking(read).await??;
    while line.pop_if(|byte| matches!(byte, b'\n' | b'\r')).is_some() {}
    match line.len() {
        0 => Err("the password is empty; nothing was changed".into()),
        1..=MAX_PASSWORD_BYTES => Ok(line),
        _ => Err("the password is longer than MQTT can carry".into()),
    }
}

/// A terminal that does not show what is typed, until this is dropped.
#[derive(Debug)]
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0) {
            tracing::warn!(%error, "the terminal does not show what is typed; `stty echo` mends it");
        }
    }
}
