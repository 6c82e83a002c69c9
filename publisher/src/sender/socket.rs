//! A socket, plain or with TLS, that is read and written without waiting.
//!
//! A connection reads all that has come and writes all it has in one go, which tokio's own TLS stream does not
//! offer; so the session of rustls stands here beside the socket, and its bytes are moved by hand.

use std::io::{self, ErrorKind, Read as _, Write as _};

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio_rustls::rustls::ClientConnection;

use super::SendOptions;

/// A connected socket.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

/// The encrypted side of a session.
struct Raw<'a>(&'a TcpStream);

impl io::Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl io::Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket {
    /// Connects; a TLS session begins with the first bytes.
    pub(super) async fn connect(options: &SendOptions) -> io::Result<Self> {
        let stream = TcpStream::connect((options.host.as_str(), options.port)).await?;
        stream.set_nodelay(true)?;
        let session = options.tls.as_ref().map(|tls| tls.session(&options.host));
        let tls = session.transpose()?.map(Box::new);
        Ok(Self { stream, tls })
    }

    /// Waits until there is something to read, or, where something is left to be written, room for it.
    pub(super) async fn ready(&self, has_output: bool) -> io::Result<()> {
        let interest = if has_output || self.has_unsent() {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        self.stream.ready(interest).await.map(drop)
    }

    /// Tells whether bytes that were taken wait for room in the socket.
    pub(super) fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Reads what there is; nothing at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has come; `InvalidData` when it is not what the session allows.
    pub(super) fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.stream.try_read(buffer);
        };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The broker went without a goodbye; what has come is whole packets or will be sent again.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            if tls.read_tls(&mut Raw(&self.stream))? == 0 {
                return Ok(0);
            }
            let taken = tls.process_new_packets();
            // What the session has to say to this: the next step of a handshake, or why it ends.
            let sent = send(tls, &self.stream);
            taken.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            sent?;
        }
    }

    /// Takes some of the bytes, and sends what the socket has room for.
    ///
    /// # Errors
    /// `WouldBlock` when none can be taken.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.stream.try_write(bytes);
        };
        let taken = tls.writer().write(bytes)?;
        send(tls, &self.stream)?;
        if taken == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }

    /// Sends bytes that were taken, as far as the socket has room.
    pub(super) fn try_flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => send(tls, &self.stream),
            None => Ok(()),
        }
    }

    /// Writes all of it, waiting for room.
    pub(super) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(true).await?,
                Err(error) => return Err(error),
            }
        }
        while self.has_unsent() {
            self.try_flush()?;
            if self.has_unsent() {
                self.wait(true).await?;
            }
        }
        Ok(())
    }

    /// Fills the buffer, waiting for it.
    pub(super) async fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.try_read(buffer.get_mut(filled..).unwrap_or_default()) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(false).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for room, or for something to read; of a handshake, for either.
    async fn wait(&self, for_room: bool) -> io::Result<()> {
        match &self.tls {
            None if for_room => self.stream.writable().await,
            None => self.stream.readable().await,
            Some(_) => self.ready(self.has_unsent()).await,
        }
    }

    /// Says goodbye and sends what is left.
    pub(super) async fn close(&mut self, last: &[u8]) -> io::Result<()> {
        self.write_all(last).await?;
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        self.write_all(&[]).await
    }
}

/// Sends what a session has ready, as far as the socket has room.
fn send(tls: &mut ClientConnection, stream: &TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(&mut Raw(stream)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
