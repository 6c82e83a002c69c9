//! Writing to a stream that keeps some of what it takes: TLS and WebSocket do, until they are flushed.
//!
//! Invariant: a connection is not at rest while its stream keeps something, or the last bytes of a message would wait
//! there until the next.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::AsyncWrite;

/// Writes once, and tells whether all that was taken has left. Without bytes it waits until that has left.
///
/// # Cancel safety
/// Yes.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    writer: &mut W,
    bytes: &[u8],
) -> io::Result<(usize, bool)> {
    poll_fn(|context| {
        if bytes.is_empty() {
            let flushed = ready!(Pin::new(&mut *writer).poll_flush(context));
            return Poll::Ready(flushed.map(|()| (0, true)));
        }
        let count = ready!(Pin::new(&mut *writer).poll_write(context, bytes))?;
        match Pin::new(&mut *writer).poll_flush(context) {
            Poll::Ready(flushed) => Poll::Ready(flushed.map(|()| (count, true))),
            Poll::Pending => Poll::Ready(Ok((count, false))),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, BufWriter, duplex};

    use super::*;

    #[tokio::test]
    async fn what_a_stream_keeps_is_not_taken_for_sent() {
        let (near, mut far) = duplex(4);
        let mut keeps = BufWriter::with_capacity(64, near);
        // Six bytes are taken, and the stream below has room for four.
        assert_eq!(write(&mut keeps, b"sixsix").await.unwrap(), (6, false));
        let mut rest = Box::pin(write(&mut keeps, b""));
        assert!(futures_util::poll!(&mut rest).is_pending());
        let mut got = [0; 4];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(rest.await.unwrap(), (0, true));
        far.read_exact(&mut got[..2]).await.unwrap();
        assert_eq!(write(&mut keeps, b"four").await.unwrap(), (4, true));
    }
}
