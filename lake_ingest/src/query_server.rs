//! Queries over HTTP: `POST /v1/query` on an address of its own, for the API and for programs nearby.
//!
//! Off unless an address is set. Owns the listener, who may ask, and the bounds on time and number; what a query may
//! take otherwise is bounded in [`limited`](lake_models::query::limited) and, by the kernel, in [`worker`].
//!
//! Invariants:
//! - Each query is a process of its own, see [`worker`]; one that takes too long, or whose client has gone, is killed
//!   before its place is given to another.
//! - Nothing waits: a query beyond the number allowed is refused at once.
//!
//! What it does not do: it speaks no TLS and knows one token, not users. It is made for the inside of a network; the
//! API is what faces clients.

mod metrics;
mod problem;
mod settings;
pub(crate) mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ORIGIN,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use lake_models::query::limited::{Form, Limits};
use serde::Deserialize;
use service::{BoxError, Context, ErrorChain, Stage, bind_tcp};
use tokio::sync::Semaphore;

use crate::settings::Config;
use metrics::Metrics;
use problem::Problem;
pub use settings::{QueryConfig, QuerySettings};
use worker::{Outcome, Question, Workers};

/// Largest body, and so the longest query.
const MAX_BODY: usize = 64 << 10;
/// Longest time a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Says whether there are more rows than the answer has.
const TRUNCATED: HeaderName = HeaderName::from_static("lastmile-truncated");

struct Shared {
    config: QueryConfig,
    limits: Limits,
    workers: Workers,
    places: Semaphore,
    metrics: Metrics,
    context: Context,
}

/// A question as it is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    sql: String,
    format: Option<Form>,
}

/// Listens and answers until the stop; `None` when no address is set.
///
/// # Errors
/// When it cannot listen.
pub(crate) async fn start(
    config: &Config,
    context: &Context,
) -> Result<Option<SocketAddr>, BoxError> {
    let query = config.query.clone();
    let Some(address) = query.query_listen else {
        return Ok(None);
    };
    let listener = bind_tcp("queries", address).await?;
    let address = listener.local_addr()?;
    let shared = Arc::new(Shared {
        limits: Limits {
            rows: query.query_max_rows,
            bytes: query.query_max_answer.as_usize(),
            memory: query.query_memory.as_usize(),
        },
        workers: Workers::new(config)?,
        places: Semaphore::new(query.query_concurrency),
        metrics: Metrics::new(&context.metrics),
        context: context.clone(),
        config: query,
    });
    let routes = Router::new()
        .route("/v1/query", post(query_posted))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .fallback(async || Problem::RouteUnknown)
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .layer(from_fn_with_state(Arc::clone(&shared), admit))
        .with_state(shared);
    context
        .tasks
        .spawn(Stage::Serve, "queries", async move |token| {
            axum::serve(listener, routes)
                .with_graceful_shutdown(token.cancelled_owned())
                .await?;
            Ok(())
        });
    Ok(Some(address))
}

/// Lets a request through to its handler, or refuses it, before its body is read.
async fn admit(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    // A page in a browser on this machine could ask otherwise, and where there is no token, be answered.
    let refused = if headers.contains_key(ORIGIN) {
        Some(Problem::WebPage)
    } else if !may_ask(&shared.config, headers) {
        Some(Problem::Unauthorized)
    } else {
        None
    };
    if let Some(problem) = refused {
        shared.metrics.counted().outcome = problem.code();
        return problem.into_response();
    }
    // The query's own limit is told apart within; this one ends bodies that do not arrive.
    let limit = shared.config.query_timeout.as_duration() + BODY_TIME;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::Body("the body did not arrive in time".to_owned()).into_response(),
    }
}

fn may_ask(config: &QueryConfig, headers: &HeaderMap) -> bool {
    let Some(token) = &config.query_token else {
        return true;
    };
    let sent = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let sent = sent.and_then(|sent| sent.strip_prefix(b"Bearer "));
    sent.is_some_and(|sent| same(sent, token.expose().as_bytes()))
}

/// Compares in a time that tells nothing but the length.
fn same(one: &[u8], other: &[u8]) -> bool {
    let pairs = one.iter().zip(other);
    let difference = pairs.fold(0, |difference, (a, b)| difference | (a ^ b));
    one.len() == other.len() && std::hint::black_box(difference) == 0
}

async fn query_posted(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let mut counted = shared.metrics.counted();
    let answered = async {
        let question = read(&headers, body, shared.limits)?;
        shared.answer(&question).await
    };
    match answered.await {
        Ok(response) => {
            counted.outcome = "ok";
            response
        }
        Err(problem) => {
            counted.outcome = problem.code();
            problem.into_response()
        }
    }
}

/// Reads the question from a request.
fn read(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    limits: Limits,
) -> Result<Question, Problem> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::TooLarge { limit: MAX_BODY },
        _ => Problem::Body("the body broke off; send it again".to_owned()),
    })?;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(Problem::MediaType);
    }
    let essence = text(CONTENT_TYPE).and_then(|sent| sent.split(';').next());
    let sent = match essence.map(|essence| essence.trim().to_ascii_lowercase()) {
        Some(json) if json == "application/json" => {
            serde_json::from_slice(&body).map_err(|error| {
                Problem::Body(format!("the body is no {{\"sql\": \"…\"}}: {error}"))
            })?
        }
        Some(plain) if plain != "text/plain" && plain != "application/sql" => {
            return Err(Problem::MediaType);
        }
        _ => Sent {
            sql: String::from_utf8(body.into())
                .map_err(|_| Problem::Body("the query is not UTF-8".to_owned()))?,
            format: None,
        },
    };
    let wants_csv = || text(ACCEPT).is_some_and(|accepted| accepted.contains("text/csv"));
    let form = sent
        .format
        .unwrap_or_else(|| if wants_csv() { Form::Csv } else { Form::Json });
    Ok(Question {
        sql: sent.sql,
        form,
        limits,
    })
}

impl Shared {
    /// Answers within the bounds.
    async fn answer(&self, question: &Question) -> Result<Response, Problem> {
        let config = &self.config;
        let limit = config.query_concurrency;
        let Ok(_place) = self.places.try_acquire() else {
            return Err(Problem::Overloaded { limit });
        };
        let _running = self.metrics.running();
        let limit = config.query_timeout;
        let asked = tokio::time::timeout(limit.as_duration(), self.workers.ask(question));
        let asked = tokio::select! {
            asked = asked => asked.map_err(|_| Problem::Timeout { limit }),
            () = self.context.tasks.stopped() => Err(Problem::Stopping),
        };
        let (outcome, body) = asked?.map_err(|error| {
            tracing::error!(error = %ErrorChain(error.as_ref()), "a query failed");
            Problem::Internal
        })?;
        match outcome {
            Outcome::Answered { truncated } => Ok(answer(question.form, truncated, body)),
            Outcome::Invalid { detail, tables } => Err(Problem::Invalid { detail, tables }),
            Outcome::Memory => Err(Problem::Memory {
                limit: config.query_memory.to_string(),
            }),
            Outcome::Unavailable => Err(Problem::Unavailable),
            Outcome::Failed => Err(Problem::Internal),
        }
    }
}

fn answer(form: Form, truncated: bool, body: Vec<u8>) -> Response {
    let media_type = match form {
        Form::Json => "application/json",
        Form::Csv => "text/csv; charset=utf-8",
    };
    let truncated = if truncated { "true" } else { "false" };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (TRUNCATED, HeaderValue::from_static(truncated)),
    ];
    (headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_token_is_the_same() {
        assert!(same(b"0123456789abcdef", b"0123456789abcdef"));
        for other in [
            &b""[..],
            b"0123456789abcdeg",
            b"0123456789abcde",
            b"0123456789abcdef0",
        ] {
            assert!(!same(other, b"0123456789abcdef"));
        }
    }

    #[test]
    fn a_question_is_read_in_every_way_it_may_be_sent() {
        let limits = Limits {
            rows: 1,
            bytes: 1,
            memory: 1,
        };
        let asked = |content_type: Option<&str>, accept: Option<&str>, body: &'static str| {
            let mut headers = HeaderMap::new();
            for (name, value) in [(CONTENT_TYPE, content_type), (ACCEPT, accept)] {
                if let Some(value) = value {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            read(&headers, Ok(Bytes::from(body)), limits).map(|asked| (asked.sql, asked.form))
        };
        let (json, csv) = (Some("application/json; charset=utf-8"), Some("text/csv"));
        let question = |form| Ok(("SELECT 1".to_owned(), form));
        assert_eq!(asked(None, None, "SELECT 1"), question(Form::Json));
        assert_eq!(
            asked(Some("text/plain"), csv, "SELECT 1"),
            question(Form::Csv)
        );
        assert_eq!(
            asked(json, None, r#"{"sql":"SELECT 1"}"#),
            question(Form::Json)
        );
        // What the body says goes before the header.
        let both = r#"{"sql":"SELECT 1","format":"csv"}"#;
        assert_eq!(
            asked(json, Some("application/json"), both),
            question(Form::Csv)
        );
        for wrong in [
            "",
            "{}",
            "[]",
            r#"{"sql":"SELECT 1","limit":5}"#,
            r#"{"sql":1}"#,
        ] {
            let problem = asked(json, None, wrong).unwrap_err();
            assert_eq!(problem.code(), "invalid_body", "{wrong}");
        }
        let form = asked(
            Some("application/x-www-form-urlencoded"),
            None,
            "sql=SELECT",
        );
        assert_eq!(form, Err(Problem::MediaType));
    }
}
