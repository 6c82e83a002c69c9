//! A proxy before an S3 service that does, on request, what networks and overloaded services do.
//!
//! One request for each connection; each rule is used once, by the first request it fits.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The service does not get it; this is answered.
    Answer(u16, &'static str),
    /// The service carries it out; this is answered.
    AnswerAfter(u16, &'static str),
    /// The connection is cut and the service does not get it.
    CutBefore,
    /// The service carries it out and the connection is cut.
    CutAfter,
    /// The connection is cut in the middle of the answer.
    CutWithin,
    /// The service does not get it, and nothing is ever answered.
    Silence,
    /// Something in between sends it twice and hands on the second answer.
    Repeat,
    /// A byte of the answer's body is another.
    Damage,
    /// As `Damage`, and the checksum is not handed on.
    DamageUnseen,
}

/// A request as rules see it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The first line.
    pub(crate) line: String,
    head: String,
}

impl Request {
    /// Tells whether it has this method, and this text in its path or query.
    pub(crate) fn is(&self, method: &str, text: &str) -> bool {
        self.line.starts_with(method) && self.line.contains(text)
    }

    /// Tells whether it has this header.
    pub(crate) fn has(&self, header: &str) -> bool {
        self.head.to_ascii_lowercase().contains(header)
    }
}

struct Rule {
    method: &'static str,
    text: String,
    fault: Fault,
    times: u32,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    seen: Vec<Request>,
    /// Whether `If-None-Match` is taken away from every request, as if the service did not know it.
    ignorant: bool,
}

/// A proxy; gone with this value.
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
    _serving: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy before `endpoint`.
    pub(crate) async fn start(endpoint: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let upstream: SocketAddr = endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let mut serving = JoinSet::new();
        let of_server = state.clone();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let state = of_server.clone();
                // A connection that breaks is what this is for.
                connections.spawn(async move { drop(serve(client, upstream, &state).await) });
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            endpoint: format!("http://{own}"),
            state,
            _serving: serving,
        }
    }

    /// Does `fault` to the next `times` requests with this method, and this text in path or query.
    pub(crate) fn fault(&self, method: &'static str, text: &str, times: u32, fault: Fault) {
        self.state.lock().unwrap().rules.push(Rule {
            method,
            text: text.to_owned(),
            fault,
            times,
        });
    }

    /// Takes `If-None-Match` away from every request from now on.
    pub(crate) fn forget_conditions(&self) {
        self.state.lock().unwrap().ignorant = true;
    }

    /// Returns the requests seen, and forgets them.
    pub(crate) fn seen(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().seen)
    }

    /// Tells whether every rule was used up.
    pub(crate) fn is_used_up(&self) -> bool {
        self.state
            .lock()
            .unwrap()
            .rules
            .iter()
            .all(|rule| rule.times == 0)
    }
}

/// Reads a request: its head with the empty line, and its body.
async fn read_request(client: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_owned())
    };
    if header("expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let len = header("content-length").map_or(0, |len| len.parse().unwrap());
    let mut body = vec![0; len];
    client.read_exact(&mut body).await?;
    Ok((head, body))
}

fn without(head: &str, name: &str) -> String {
    let lines = head.split_inclusive("\r\n");
    let kept = lines.filter(|line| !line.to_ascii_lowercase().starts_with(name));
    kept.collect()
}

/// Sends a request to the service and returns its whole answer.
async fn forward(upstream: SocketAddr, head: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let head = without(&without(head, "expect:"), "connection:");
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let mut service = TcpStream::connect(upstream).await?;
    service.write_all(head.as_bytes()).await?;
    service.write_all(body).await?;
    let mut answer = Vec::new();
    service.read_to_end(&mut answer).await?;
    Ok(answer)
}

fn answer(status: u16, code: &str) -> Vec<u8> {
    let region = "x-amz-bucket-region: eu-west-7\r\n";
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>by the test</Message></Error>"
    );
    let len = body.len();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\n{region}");
    format!("{head}Content-Length: {len}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

async fn serve(
    mut client: TcpStream,
    upstream: SocketAddr,
    state: &Mutex<State>,
) -> std::io::Result<()> {
    let (mut head, body) = read_request(&mut client).await?;
    let request = Request {
        line: head.lines().next().unwrap_or_default().to_owned(),
        head: head.clone(),
    };
    let fault = {
        let mut state = state.lock().unwrap();
        if state.ignorant {
            head = without(&head, "if-none-match:");
        }
        let mut rules = state.rules.iter_mut();
        let rule = rules.find(|rule| rule.times > 0 && request.is(rule.method, &rule.text));
        let fault = rule.map(|rule| {
            rule.times -= 1;
            rule.fault
        });
        state.seen.push(request);
        fault
    };
    match fault {
        Some(Fault::CutBefore) => return Ok(()),
        Some(Fault::Silence) => return std::future::pending().await,
        Some(Fault::Answer(status, code)) => {
            return client.write_all(&answer(status, code)).await;
        }
        Some(Fault::Repeat) => drop(forward(upstream, &head, &body).await?),
        _ => {}
    }
    let mut told = forward(upstream, &head, &body).await?;
    match fault {
        Some(Fault::CutAfter) => return Ok(()),
        Some(Fault::AnswerAfter(status, code)) => told = answer(status, code),
        Some(Fault::CutWithin) => told.truncate(told.len() - 2),
        Some(Fault::Damage | Fault::DamageUnseen) => {
            if let Some(last) = told.last_mut() {
                *last ^= 1;
            }
        }
        _ => {}
    }
    if fault == Some(Fault::DamageUnseen) {
        let end = told
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap();
        let rest = told.split_off(end + 2);
        let kept = without(&String::from_utf8(told).unwrap(), "x-amz-checksum");
        told = [kept.into_bytes(), rest].concat();
    }
    client.write_all(&told).await
}
