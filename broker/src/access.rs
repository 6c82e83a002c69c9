//! Who may connect, and what a client may read and write.
//!
//! Asked at four places: when a client connects ([`Access::admit`]), publishes or leaves a will
//! ([`Permit::may_publish`]), and subscribes ([`Permit::may_subscribe`]). Retained messages are no place of their
//! own: a subscription is granted only when every topic it can bring is allowed.
//!
//! Invariants: without a password file and without certificates that name users, everyone is anonymous; with one,
//! only who proves a name is let in, unless anonymous clients are allowed. Hashes are checked off the async
//! threads, at most half the processors at a time, so that a storm of wrong passwords cannot take them from those who
//! are connected; at most [`MAX_WAITING`] wait for that, and what was [`proven`] before does not. A file that has become wrong changes nothing: what was read before stays.
//!
//! Not here: TLS, which says whose certificate it saw; limits, which hold whoever a client is.

mod acl;
mod filters;
pub(crate) mod passwords;
mod proven;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Semaphore;

use self::acl::{Acl, Action, ClientRules, Unfit};
use self::passwords::Passwords;
use self::proven::Proven;

/// A file of users or rules that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It says something wrong.
    #[error("{}:{line}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

impl FileError {
    fn at(path: &Path, line: usize, message: String) -> Self {
        let path = path.to_owned();
        Self::Content {
            path,
            line,
            message,
        }
    }

    pub(crate) fn read(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        Self::Read { path, source }
    }
}

/// Returns the lines that say something, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate();
    numbered
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Why a message is not taken. Its client stays connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The rules deny it. MQTT 5: reason 0x87. MQTT 3.1.1 knows no answer: it is acknowledged, and kept by nobody
    /// [MQTT-3.3.5-2].
    NotAuthorized,
    /// The topic is longer or deeper than the broker takes. MQTT 5: reason 0x90.
    TopicName,
}

/// The largest topics and filters that are taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TopicLimits {
    pub(crate) bytes: usize,
    pub(crate) levels: usize,
}

impl TopicLimits {
    fn hold(self, topic: &str) -> bool {
        let separators = || topic.bytes().filter(|byte| *byte == b'/').count();
        topic.len() <= self.bytes && (topic.len() < self.levels || separators() < self.levels)
    }
}

impl Default for TopicLimits {
    fn default() -> Self {
        Self {
            bytes: usize::from(u16::MAX),
            levels: crate::protocol::topic::MAX_FILTER_LEVELS,
        }
    }
}

/// What is configured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) passwords: Option<PathBuf>,
    pub(crate) acl: Option<PathBuf>,
    /// Whether a certificate's common name is a user's name.
    pub(crate) certificate_users: bool,
    /// Whether who gives no name is let in though there are users.
    pub(crate) anonymous: bool,
    pub(crate) topics: TopicLimits,
    /// Longest wait for a turn to have a password checked.
    pub(crate) patience: Duration,
}

/// Users and rules, as the files say at the moment. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: Options,
    book: RwLock<Book>,
    /// Counts what was read.
    generation: AtomicU64,
    checking: Semaphore,
    /// Clients that wait for a hash, or have theirs checked.
    waiting: AtomicUsize,
    proven: Proven,
}

#[derive(Debug, Clone, Default)]
struct Book {
    passwords: Option<Arc<Passwords>>,
    acl: Option<Arc<Acl>>,
}

/// Who a client says it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Login<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) user: Option<&'a str>,
    pub(crate) password: Option<&'a [u8]>,
    /// Common name of a certificate that was verified.
    pub(crate) certificate: Option<&'a str>,
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("the user name or the password is wrong")]
    Credentials,
    #[error("the client is not authorised")]
    NotAuthorized,
    #[error("the client id is not for this user")]
    ClientId,
    #[error("too many passwords wait to be checked")]
    Busy,
}

/// Returns how many hashes are checked at a time: each takes 19 MiB and a processor.
fn checks() -> usize {
    let processors = std::thread::available_parallelism();
    (processors.map_or(1, usize::from) / 2).max(1)
}

/// Most clients that wait for their hash; who comes beyond is told to come later.
const MAX_WAITING: usize = 1024;
/// A hash of nothing in particular, so that an unknown user takes as long as a known one.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGF0IGFsbA$\
                      ZnJvbSBub3doZXJlIGF0IGFsbCwgbm90aGluZw";

impl Access {
    /// Reads the files.
    ///
    /// # Errors
    /// The first that cannot be taken.
    pub(crate) fn open(options: Options) -> Result<Self, FileError> {
        let book = Book::read(&options)?;
        Ok(Self(Arc::new(Inner {
            options,
            book: RwLock::new(book),
            generation: AtomicU64::new(0),
            checking: Semaphore::new(checks()),
            waiting: AtomicUsize::new(0),
            proven: Proven::new(),
        })))
    }

    /// Returns the files that are read.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let options = &self.0.options;
        let files = [&options.passwords, &options.acl];
        files.into_iter().flatten().cloned().collect()
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// When one cannot be taken; then all stays as it was.
    pub(crate) fn reload(&self) -> Result<(), FileError> {
        let book = Book::read(&self.0.options)?;
        *self.0.book.write().unwrap_or_else(PoisonError::into_inner) = book;
        self.0.proven.clear();
        self.0.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn book(&self) -> Book {
        let book = self.0.book.read();
        book.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Finds out who a client is and what it may do.
    ///
    /// # Errors
    /// Why it is not let in.
    pub(crate) async fn admit(&self, login: Login<'_>) -> Result<Permit, Denied> {
        let generation = self.0.generation.load(Ordering::Acquire);
        let book = self.book();
        let (user, hash) = self.identify(&book, login).await?;
        let mut permit = Permit {
            access: self.clone(),
            user: user.map(Into::into),
            hash: hash.map(Into::into),
            client_id: login.client_id.into(),
            rules: None,
            generation,
        };
        permit.judge(&book)?;
        Ok(permit)
    }

    /// Returns the user's name, and the hash it was proven by.
    async fn identify<'a>(
        &self,
        book: &Book,
        login: Login<'a>,
    ) -> Result<(Option<&'a str>, Option<String>), Denied> {
        let options = &self.0.options;
        if options.certificate_users
            && let Some(name) = login.certificate
        {
            let same = login.user.is_none_or(|user| user == name);
            let proven = same && passwords::check_name(name).is_ok();
            return if proven {
                Ok((Some(name), None))
            } else {
                Err(Denied::Credentials)
            };
        }
        let Some(passwords) = &book.passwords else {
            // A name that nobody can prove is no name.
            let open = options.anonymous || !options.certificate_users;
            return if open {
                Ok((None, None))
            } else {
                Err(Denied::NotAuthorized)
            };
        };
        let Some(user) = login.user else {
            return if options.anonymous {
                Ok((None, None))
            } else {
                Err(Denied::NotAuthorized)
            };
        };
        let hash = passwords.hash_of(user).map(str::to_owned);
        let password = login.password.unwrap_or_default();
        let proven = &self.0.proven;
        let digest = hash
            .as_deref()
            .and_then(|h| proven.digest(user, h, password));
        let known = digest.is_some_and(|digest| proven.has(&digest));
        let right = known || self.check(password.to_vec(), hash.clone()).await?;
        match hash {
            Some(hash) if right => {
                if let Some(digest) = digest.filter(|_| !known) {
                    proven.add(digest);
                }
                Ok((Some(user), Some(hash)))
            }
            _ => Err(Denied::Credentials),
        }
    }

    async fn check(&self, password: Vec<u8>, hash: Option<String>) -> Result<bool, Denied> {
        let _place = Place::take(&self.0.waiting)?;
        let turn = tokio::time::timeout(self.0.options.patience, self.0.checking.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Denied::Busy);
        };
        let check = move || passwords::verify(&password, hash.as_deref().unwrap_or(NOBODY));
        let checked = tokio::task::spawn_blocking(check).await;
        checked.map_err(|_| Denied::Busy)
    }
}

/// A place among those who wait for their hash.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, Denied> {
        let place = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            return Err(Denied::Busy);
        }
        Ok(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Book {
    fn read(options: &Options) -> Result<Self, FileError> {
        let text = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| FileError::read(path, source))
        };
        let mut book = Self::default();
        if let Some(path) = &options.passwords {
            book.passwords = Some(Passwords::parse(path, &text(path)?)?.into());
        }
        if let Some(path) = &options.acl {
            book.acl = Some(Acl::parse(path, &text(path)?)?.into());
        }
        Ok(book)
    }
}

/// What a connected client may do.
#[derive(Debug)]
pub(crate) struct Permit {
    access: Access,
    user: Option<Arc<str>>,
    hash: Option<Box<str>>,
    client_id: Arc<str>,
    /// `None`: anything.
    rules: Option<ClientRules>,
    generation: u64,
}

impl Permit {
    /// Returns the name that was proven.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Tells whether a message may be published, now or as a will.
    pub(crate) fn may_publish(&self, topic: &str) -> Result<(), Refused> {
        let rules = self.rules.as_ref();
        if !self.access.0.options.topics.hold(topic) {
            Err(Refused::TopicName)
        } else if rules.is_none_or(|rules| rules.allow(Action::Write, topic)) {
            Ok(())
        } else {
            Err(Refused::NotAuthorized)
        }
    }

    /// Tells whether a filter may be subscribed to, as the client gave it: `$share/<group>/` is looked through.
    pub(crate) fn may_subscribe(&self, requested: &str) -> bool {
        if !self.access.0.options.topics.hold(requested) {
            return false;
        }
        let filter = match requested.strip_prefix("$share/") {
            Some(key) => key.split_once('/').map_or("", |(_, filter)| filter),
            None => requested,
        };
        let rules = self.rules.as_ref();
        rules.is_none_or(|rules| rules.allow(Action::Read, filter))
    }

    /// Tells whether the files were read again since this was made: then [`Permit::renew`].
    pub(crate) fn is_stale(&self) -> bool {
        self.generation != self.access.0.generation.load(Ordering::Acquire)
    }

    /// Judges the client by the files as they are now.
    ///
    /// # Errors
    /// When it would not be let in any more: its user is gone or has another password, or may not use its
    /// client id.
    pub(crate) fn renew(&mut self) -> Result<(), Denied> {
        self.generation = self.access.0.generation.load(Ordering::Acquire);
        let book = self.access.book();
        if let (Some(user), Some(hash)) = (&self.user, &self.hash) {
            let now = book.passwords.as_ref().and_then(|all| all.hash_of(user));
            if now != Some(hash) {
                return Err(Denied::NotAuthorized);
            }
        }
        self.judge(&book)
    }

    fn judge(&mut self, book: &Book) -> Result<(), Denied> {
        self.rules = match &book.acl {
            None => None,
            Some(acl) => {
                let rules = acl.for_client(self.user.as_deref(), &self.client_id);
                Some(rules.map_err(|unfit| match unfit {
                    Unfit::ClientId => Denied::ClientId,
                    Unfit::User => Denied::NotAuthorized,
                })?)
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
