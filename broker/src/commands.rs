//! What `broker` does for a person at a terminal: manages users, and looks at the data of a broker that runs or not.
//!
//! Looking changes nothing and needs no connection: it reads the files.

mod look;
mod passwd;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use service::{BoxError, Context};

/// What to do instead of serving.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand, Serialize, Deserialize)]
pub enum Command {
    /// Set or remove a user's password in a password file. The password is asked for at the terminal, or is the first
    /// line of stdin; it is never an argument, which other users of the machine could see
    Passwd {
        /// The password file (--mqtt-password-file); made when it is not there
        file: PathBuf,
        /// The user's name
        user: String,
        /// Remove the user
        #[arg(long)]
        delete: bool,
    },
    /// List the persistent sessions and the groups of shared subscriptions: their places, and how far they are behind
    Sessions {
        /// Print JSON, one line each
        #[arg(long)]
        json: bool,
    },
    /// List the log's segments
    Log {
        /// Print JSON, one line each
        #[arg(long)]
        json: bool,
    },
    /// Read the whole log and check every CRC, every sequence and every cursor; exit code 1 when something is wrong
    Check {},
}

/// Does what a command says, with the log in `log_dir`.
///
/// # Errors
/// When it cannot be done, or `check` finds something wrong.
pub async fn run(command: Command, log_dir: &Path, context: &Context) -> Result<(), BoxError> {
    match command {
        Command::Passwd { file, user, delete } => passwd::run(&file, &user, delete, context).await,
        Command::Sessions { json } => blocking(log_dir, move |dir| look::sessions(dir, json)).await,
        Command::Log { json } => blocking(log_dir, move |dir| look::log(dir, json)).await,
        Command::Check {} => blocking(log_dir, look::check).await,
    }
}

async fn blocking(
    dir: &Path,
    work: impl FnOnce(&Path) -> Result<String, BoxError> + Send + 'static,
) -> Result<(), BoxError> {
    let dir = dir.to_owned();
    let text = tokio::task::spawn_blocking(move || work(&dir)).await??;
    print(&text)?;
    Ok(())
}

/// Writes to stdout; a reader that has gone away (`| head`) is no failure.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
