//! MQTT in WebSocket frames.
//!
//! A packet may span frames and a frame may hold several [MQTT-6.0.0-2]; frames are binary [MQTT-6.0.0-1]; the client
//! asks for the sub-protocol `mqtt` [MQTT-6.0.0-3]. Frames and messages are bounded before they are kept. A page of
//! another site is refused: browsers let any page connect anywhere, and only the `Origin` header tells.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{
    Callback, ErrorResponse, Request, Response,
};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Read from the socket at a time; held per connection.
const READ_BYTES: usize = 4 << 10;
/// Most bytes of one frame to the client.
const WRITE_BYTES: usize = 32 << 10;
/// The sub-protocol's name.
const PROTOCOL: &str = "mqtt";

/// Whose pages may connect, besides what is no page and sends no `Origin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origins {
    /// Pages of the host that is connected to, and these.
    Own(Vec<String>),
    Any,
}

impl Origins {
    /// Reads a list with commas: `*`, or origins as `https://map.example.org`.
    pub(super) fn parse(list: &str) -> Self {
        let origins = list.split(',').map(str::trim).filter(|o| !o.is_empty());
        let origins: Vec<_> = origins.map(str::to_ascii_lowercase).collect();
        if origins.iter().any(|origin| origin == "*") {
            Self::Any
        } else {
            Self::Own(origins)
        }
    }

    fn allow(&self, request: &Request) -> bool {
        let Self::Own(known) = self else { return true };
        let text = |name| request.headers().get(name).map(HeaderValue::to_str);
        match text(header::ORIGIN) {
            None => true,
            Some(Err(_)) => false,
            Some(Ok(origin)) => {
                let origin = origin.to_ascii_lowercase();
                let host = origin.split_once("://").map(|(_, host)| host);
                let own = matches!(text(header::HOST), Some(Ok(own)) if host == Some(&*own.to_ascii_lowercase()));
                own || known.contains(&origin)
            }
        }
    }
}

/// Looks at a request to upgrade.
struct Upgrade<'a>(&'a Origins);

impl Callback for Upgrade<'_> {
    fn on_request(
        self,
        request: &Request,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        if !self.0.allow(request) {
            return Err(refusal(
                StatusCode::FORBIDDEN,
                "this origin may not connect",
            ));
        }
        let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
        let mut offered = offered.iter().filter_map(|value| value.to_str().ok());
        let speaks = |list: &str| list.split(',').any(|protocol| protocol.trim() == PROTOCOL);
        if !offered.any(speaks) {
            return Err(refusal(
                StatusCode::BAD_REQUEST,
                "the sub-protocol is to be mqtt",
            ));
        }
        let protocol = HeaderValue::from_static(PROTOCOL);
        let headers = response.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        Ok(response)
    }
}

fn refusal(status: StatusCode, reason: &str) -> ErrorResponse {
    let mut refusal = ErrorResponse::new(Some(format!("{reason}\n")));
    *refusal.status_mut() = status;
    refusal
}

/// Does the handshake of HTTP.
pub(super) async fn accept<S>(
    stream: S,
    origins: &Origins,
    frame_bytes: usize,
) -> io::Result<Frames<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(8 * WRITE_BYTES)
        .max_message_size(Some(frame_bytes))
        .max_frame_size(Some(frame_bytes));
    let upgrade = Upgrade(origins);
    let accepted = tokio_tungstenite::accept_hdr_async_with_config(stream, upgrade, Some(config));
    Ok(Frames {
        socket: accepted.await.map_err(to_io)?,
        rest: Bytes::new(),
    })
}

/// The bytes within binary frames, as a stream.
#[derive(Debug)]
pub(super) struct Frames<S> {
    socket: WebSocketStream<S>,
    /// What is left of a message.
    rest: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Frames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(context)) {
                None | Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Text(_))) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, "a frame of text");
                    return Poll::Ready(Err(error));
                }
                // Answered below.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
            }
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..count]);
        self.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // What was taken before leaves first, so that no more than a frame waits here.
        ready!(self.as_mut().poll_flush(context))?;
        ready!(Pin::new(&mut self.socket).poll_ready(context)).map_err(to_io)?;
        let count = bytes.len().min(WRITE_BYTES);
        let frame = Message::Binary(Bytes::copy_from_slice(&bytes[..count]));
        let sent = Pin::new(&mut self.socket).start_send(frame);
        sent.map_err(to_io)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.socket).poll_flush(context));
        Poll::Ready(flushed.map_err(to_io))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.socket).poll_close(context)) {
            Ok(()) | Err(Error::ConnectionClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(to_io(error))),
        }
    }
}

fn to_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request {
        let mut request = Request::new(());
        for (name, value) in headers {
            let name = header::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        request
    }

    fn upgrade(origins: &str, headers: &[(&str, &str)]) -> StatusCode {
        let origins = Origins::parse(origins);
        match Upgrade(&origins).on_request(&request(headers), Response::new(())) {
            Ok(response) => {
                assert_eq!(response.headers()[header::SEC_WEBSOCKET_PROTOCOL], "mqtt");
                StatusCode::SWITCHING_PROTOCOLS
            }
            Err(refusal) => refusal.status(),
        }
    }

    #[test]
    fn only_mqtt_is_spoken_and_only_with_known_pages() {
        let mqtt = ("Sec-WebSocket-Protocol", "other, mqtt");
        let host = ("Host", "Map.example:8083");
        assert_eq!(upgrade("", &[mqtt, host]), 101);
        assert_eq!(upgrade("", &[host]), 400);
        assert_eq!(upgrade("", &[("Sec-WebSocket-Protocol", "mqttv3.1")]), 400);
        let own = ("Origin", "http://map.example:8083");
        let other = ("Origin", "https://evil.example");
        assert_eq!(upgrade("", &[mqtt, host, own]), 101);
        for origin in [other, ("Origin", "null"), ("Origin", "http://map.example")] {
            assert_eq!(upgrade("https://a.example", &[mqtt, host, origin]), 403);
            assert_eq!(upgrade("*", &[mqtt, host, origin]), 101);
        }
        let listed = "https://a.example, https://Evil.example";
        assert_eq!(upgrade(listed, &[mqtt, host, other]), 101);
    }
}
