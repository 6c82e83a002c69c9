//! A query in a process of its own: the side that asks, and the process that answers.
//!
//! Invariants:
//! - Whatever a query does to its process, this one goes on taking rows to the lake: the process has limits of the
//!   kernel's on memory, may write no file, is the first to be killed when memory is short, and yields the
//!   processor to everybody else.
//! - A query that nobody waits for any more is killed: dropping [`Workers::ask`] does it, and a process whose asker
//!   has gone ends by itself.
//! - The process is told neither the store's address nor the token.
//!
//! The question is one line of JSON on its standard input, which stays open; the answer is one line of JSON and then
//! the body on its standard output. What it says on standard error goes to this process's log.

use std::ffi::OsString;
use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use lake_models::query::limited::{self, Form, Limits, Refusal};
use rustix::process::{Resource, Rlimit, nice, setrlimit};
use serde::{Deserialize, Serialize};
use service::{BoxError, ErrorChain};
use store::ErrorKind;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::oneshot;

use crate::job;
use crate::settings::Config;

/// Memory of a process beside twice the engine's pool: the program's own, its threads' stacks, files being read.
const OWN_MEMORY: u64 = 512 << 20;
/// Threads of a process that answers.
const THREADS: usize = 2;
/// How much the process yields to others, of 19.
const NICENESS: i32 = 10;
/// Room for the first line of the answer, and for the names of columns.
const HEAD_ROOM: u64 = 4 << 20;
/// Longest text of the engine's that is passed on.
const LONGEST_DETAIL: usize = 4_000;
/// Most bytes of what a process says that go to the log.
const MOST_SAID: u64 = 8_192;

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Question {
    pub(crate) sql: String,
    pub(crate) form: Form,
    pub(crate) limits: Limits,
}

/// What became of it: the first line of the answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The body follows.
    Answered {
        truncated: bool,
    },
    Invalid {
        detail: String,
        tables: Vec<String>,
    },
    Memory,
    Unavailable,
    Failed,
}

/// Starts processes that answer.
#[derive(Debug)]
pub(crate) struct Workers {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Workers {
    /// Remembers how to reach the lake.
    pub(crate) fn new(config: &Config) -> io::Result<Self> {
        // The running program's own file, also after another took its name.
        let running = PathBuf::from("/proc/self/exe");
        let program = if running.exists() {
            running
        } else {
            std::env::current_exe()?
        };
        let mut arguments: Vec<OsString> = vec!["--lake".into(), config.lake.to_string().into()];
        let threads = THREADS.to_string();
        arguments.extend(["--worker-threads".into(), threads.into()]);
        if let Some(folder) = &config.models {
            arguments.extend(["--models".into(), folder.into()]);
        }
        if let Some(url) = &config.s3.s3_endpoint {
            arguments.extend(["--s3-endpoint".into(), url.into()]);
        }
        if let Some(style) = config.s3.s3_path_style {
            arguments.push(format!("--s3-path-style={style}").into());
        }
        arguments.push("answer".into());
        Ok(Self { program, arguments })
    }

    /// Has a question answered.
    ///
    /// # Errors
    /// When no process can be started or it says nothing sensible.
    ///
    /// # Cancel safety
    /// Dropping it kills the process.
    pub(crate) async fn ask(&self, question: &Question) -> Result<(Outcome, Vec<u8>), BoxError> {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            let known = name.to_string_lossy();
            if known.starts_with("LASTMILE_") || known == "MONGODB_URI" {
                command.env_remove(&name);
            }
        }
        let mut process = command
            .args(&self.arguments)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pipes = (
            process.stdin.take(),
            process.stdout.take(),
            process.stderr.take(),
        );
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err("a process has no pipes".into());
        };
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        // A process that cannot even read its question says why on standard error.
        let asked = stdin.write_all(&line).await;
        let most = question.limits.bytes as u64 + HEAD_ROOM;
        let (answer, said) = tokio::join!(read(stdout, most), read(stderr, MOST_SAID));
        let status = process.wait().await?;
        let (answer, said) = (answer?, said?);
        let said = String::from_utf8_lossy(&said);
        if !said.trim().is_empty() {
            tracing::warn!(%status, said = said.trim(), "a query's process said something");
        }
        if died_of_memory(status, &said) {
            return Ok((Outcome::Memory, Vec::new()));
        }
        asked?;
        if !status.success() {
            return Err(format!("a query's process ended with {status}").into());
        }
        let end = answer.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or("a query's process answered nothing")?;
        let mut answer = answer;
        let body = answer.split_off(end + 1);
        Ok((serde_json::from_slice(&answer)?, body))
    }
}

/// Reads everything, and keeps the first of it.
async fn read(mut from: impl AsyncRead + Unpin, most: u64) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    (&mut from).take(most).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(kept)
}

/// Tells whether a process ended for want of memory: it was refused some and aborted, or the kernel took its victim.
fn died_of_memory(status: ExitStatus, said: &str) -> bool {
    use std::os::unix::process::ExitStatusExt;
    const KILL: i32 = 9;
    !status.success() && (said.contains("memory allocation of") || status.signal() == Some(KILL))
}

/// Answers the question on standard input, in the process made for it.
pub(crate) async fn answer(config: &Config) -> Result<(), BoxError> {
    let (question, asker_gone) = listen();
    let question = question.await??;
    confine(question.limits)?;
    let models = job::models(config)?;
    let answered = limited::answer(
        &config.lake,
        &models,
        &question.sql,
        question.form,
        question.limits,
    );
    let answered = tokio::select! {
        answered = answered => answered,
        _ = asker_gone => return Err("whoever asked has gone".into()),
    };
    let (outcome, body) = match answered {
        Ok(answer) => {
            let truncated = answer.truncated;
            (Outcome::Answered { truncated }, answer.body)
        }
        Err(refusal) => (refused(refusal), Vec::new()),
    };
    let mut line = serde_json::to_vec(&outcome)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.write_all(&body)?;
    Ok(stdout.flush()?)
}

/// Says what went wrong; what is not the asker's to know, in the log.
fn refused(refusal: Refusal) -> Outcome {
    match refusal {
        Refusal::Invalid { mut detail, tables } => {
            let end = detail.floor_char_boundary(LONGEST_DETAIL);
            detail.truncate(end);
            Outcome::Invalid { detail, tables }
        }
        Refusal::Memory { .. } => Outcome::Memory,
        Refusal::Lake(error) => {
            tracing::warn!(error = %ErrorChain(&error), "the lake could not be read");
            match error.kind() {
                ErrorKind::Unavailable => Outcome::Unavailable,
                _ => Outcome::Failed,
            }
        }
    }
}

type Asked = Result<Question, io::Error>;

/// Reads the question, and tells when standard input ends. Both on a thread that the process's end does not wait for.
fn listen() -> (
    oneshot::Receiver<Asked>,
    oneshot::Receiver<io::Result<usize>>,
) {
    let (asked, question) = oneshot::channel();
    let (gone, asker_gone) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        let mut stdin = io::stdin().lock();
        let read = stdin.read_line(&mut line);
        let read = read.and_then(|_| Ok(serde_json::from_str(&line)?));
        // Nobody listens any more only when the process is at its end.
        drop(asked.send(read));
        drop(gone.send(stdin.read_to_end(&mut Vec::new())));
    });
    (question, asker_gone)
}

/// Gives up what a query has no need of. What this machine does not know is passed over: other bounds hold as well.
fn confine(limits: Limits) -> io::Result<()> {
    let pool = limits.memory as u64;
    let memory = pool.saturating_mul(2).saturating_add(OWN_MEMORY);
    for (resource, most) in [
        (Resource::Data, memory),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
    ] {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit)?;
    }
    for done in [
        nice(NICENESS).map(drop).map_err(io::Error::from),
        std::fs::write("/proc/self/oom_score_adj", "1000"),
    ] {
        if let Err(error) = done {
            tracing::debug!(%error, "a query's process could not be made to yield");
        }
    }
    Ok(())
}
