use std::fs;

use super::*;

const SECRET: &[u8] = b"open sesame";

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = Self { dir };
        let mut passwords = Passwords::default();
        passwords.set("ann", passwords::hash(SECRET).unwrap());
        fs::write(files.passwords(), passwords.to_text()).unwrap();
        files.write_acl("[users]\nallow write a/%u\nallow read a/#");
        files
    }

    fn passwords(&self) -> PathBuf {
        self.dir.path().join("passwords")
    }

    fn acl(&self) -> PathBuf {
        self.dir.path().join("acl")
    }

    fn write_acl(&self, rules: &str) {
        fs::write(self.acl(), format!("lastmile-acl 1\n{rules}\n")).unwrap();
    }

    fn options(&self) -> Options {
        Options {
            passwords: Some(self.passwords()),
            acl: Some(self.acl()),
            patience: Duration::from_mins(1),
            ..Options::default()
        }
    }
}

fn login<'a>(user: Option<&'a str>, password: Option<&'a [u8]>) -> Login<'a> {
    Login {
        client_id: "c",
        user,
        password,
        certificate: None,
    }
}

#[tokio::test]
async fn only_who_knows_the_password_is_let_in() {
    let files = Files::new();
    let access = Access::open(files.options()).unwrap();
    let permit = access
        .admit(login(Some("ann"), Some(SECRET)))
        .await
        .unwrap();
    assert_eq!(permit.user(), Some("ann"));
    assert!(permit.may_publish("a/ann").is_ok() && permit.may_publish("a/bob").is_err());
    assert!(permit.may_subscribe("a/+") && permit.may_subscribe("$share/g/a/#"));
    for filter in ["#", "$share/g/#", "$share/a/#", "$share/a", "$share/", "b"] {
        assert!(!permit.may_subscribe(filter), "{filter}");
    }
    for (user, password, expected) in [
        (Some("ann"), Some(&b"open"[..]), Denied::Credentials),
        (Some("ann"), None, Denied::Credentials),
        (Some("bob"), Some(SECRET), Denied::Credentials),
        (None, Some(SECRET), Denied::NotAuthorized),
        (None, None, Denied::NotAuthorized),
    ] {
        let refused = access.admit(login(user, password)).await;
        assert_eq!(refused.err(), Some(expected), "{user:?}");
    }
}

#[tokio::test]
async fn anonymous_clients_come_in_where_nobody_has_a_name_or_it_is_allowed() {
    let files = Files::new();
    let open = Access::open(Options::default()).unwrap();
    let permit = open.admit(login(Some("ann"), Some(b"x"))).await.unwrap();
    assert_eq!(permit.user(), None, "a name nobody proved");
    assert!(permit.may_publish("x").is_ok() && permit.may_subscribe("#"));
    let both = Access::open(Options {
        anonymous: true,
        ..files.options()
    });
    let both = both.unwrap();
    let permit = both.admit(login(None, None)).await.unwrap();
    assert!(
        permit.may_publish("a/ann").is_err(),
        "the rules are for users"
    );
    let wrong = both.admit(login(Some("ann"), Some(b"x"))).await;
    assert_eq!(wrong.err(), Some(Denied::Credentials));
}

#[tokio::test]
async fn a_certificate_is_a_name_where_it_is_to_be() {
    let named = |name, user| Login {
        certificate: Some(name),
        ..login(user, None)
    };
    let users = Options {
        certificate_users: true,
        ..Options::default()
    };
    let access = Access::open(users).unwrap();
    let permit = access.admit(named("truck-7", None)).await.unwrap();
    assert_eq!(permit.user(), Some("truck-7"));
    let other = access.admit(named("truck-7", Some("boss"))).await;
    assert_eq!(other.err(), Some(Denied::Credentials));
    let none = access.admit(login(Some("truck-7"), None)).await;
    assert_eq!(none.err(), Some(Denied::NotAuthorized));
    let files = Files::new();
    let ignores = Access::open(files.options()).unwrap();
    let refused = ignores.admit(named("ann", Some("ann"))).await;
    assert_eq!(refused.err(), Some(Denied::Credentials));
}

#[tokio::test]
async fn new_files_hold_at_once_and_wrong_ones_never() {
    let files = Files::new();
    let access = Access::open(files.options()).unwrap();
    let mut permit = access
        .admit(login(Some("ann"), Some(SECRET)))
        .await
        .unwrap();
    files.write_acl("[users]\nallow write b");
    access.reload().unwrap();
    assert!(permit.is_stale());
    permit.renew().unwrap();
    assert!(
        !permit.is_stale()
            && permit.may_publish("b").is_ok()
            && permit.may_publish("a/ann").is_err()
    );
    files.write_acl("[users]\nallow everything");
    let error = access.reload().unwrap_err().to_string();
    assert!(error.contains("acl:3:"), "{error}");
    assert!(!permit.is_stale() && permit.may_publish("b").is_ok());
    // Nothing of a change holds while one of the files is wrong.
    fs::write(files.passwords(), Passwords::default().to_text()).unwrap();
    access.reload().unwrap_err();
    assert!(access.admit(login(Some("ann"), Some(SECRET))).await.is_ok());
    files.write_acl("[users]\nclient x");
    access.reload().unwrap();
    assert_eq!(
        permit.renew(),
        Err(Denied::NotAuthorized),
        "the user is gone"
    );
    let gone = access.admit(login(Some("ann"), Some(SECRET))).await;
    assert_eq!(gone.err(), Some(Denied::Credentials));
}

#[tokio::test]
async fn an_unknown_user_takes_a_check_too() {
    assert!(!passwords::verify(b"", NOBODY));
    let text = format!("lastmile-passwords 1\nnobody:{NOBODY}\n");
    Passwords::parse(Path::new("p"), &text).unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_was_proven_does_not_wait_for_a_hash_until_the_file_is_read_again() {
    let files = Files::new();
    let access = Access::open(files.options()).unwrap();
    let admit = async |password: &'static [u8]| {
        let admitted = access.admit(login(Some("ann"), Some(password))).await;
        admitted.map(|_| ())
    };
    let all = u32::try_from(checks()).unwrap();
    // Somebody else has every turn, for longer than anyone waits.
    let others = access.0.checking.acquire_many(all).await.unwrap();
    assert_eq!(admit(SECRET).await, Err(Denied::Busy), "not proven yet");
    drop(others);
    assert_eq!(admit(SECRET).await, Ok(()));
    let others = access.0.checking.acquire_many(all).await.unwrap();
    assert_eq!(admit(SECRET).await, Ok(()));
    assert_eq!(admit(b"wrong").await, Err(Denied::Busy));
    access.reload().unwrap();
    assert_eq!(admit(SECRET).await, Err(Denied::Busy), "to be proven again");
    drop(others);
    assert_eq!(admit(b"wrong").await, Err(Denied::Credentials));
    // Nobody is left in the queue, and a full one is said at once.
    assert_eq!(access.0.waiting.load(Ordering::Relaxed), 0);
    access.0.waiting.store(MAX_WAITING, Ordering::Relaxed);
    assert_eq!(admit(SECRET).await, Err(Denied::Busy));
    assert_eq!(access.0.waiting.load(Ordering::Relaxed), MAX_WAITING);
}
