//! A connection whose owner is known.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use client::pki::Identity;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::identity_limits::Slot;

/// An accepted connection after its handshake. Its place in the limit of its identity is free
/// again once it is dropped.
#[derive(Debug)]
pub struct SecureStream {
    inner: TlsStream<TcpStream>,
    slot: Slot,
    remote: SocketAddr,
}

/// Who speaks on a connection; requests carry it as an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// The owner of the certificate.
    pub identity: Identity,
    /// The address it came from.
    pub remote: SocketAddr,
}

impl SecureStream {
    pub(super) fn new(inner: TlsStream<TcpStream>, slot: Slot, remote: SocketAddr) -> Self {
        Self { inner, slot, remote }
    }

    /// The owner of the certificate.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.slot.identity()
    }

    /// The address it came from.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The connection below TLS, for its options.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        self.inner.get_ref().0
    }
}

impl tonic::transport::server::Connected for SecureStream {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        PeerInfo { identity: self.identity().clone(), remote: self.remote }
    }
}

impl AsyncRead for SecureStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for SecureStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
