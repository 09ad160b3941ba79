//! A connection that can be stalled, lost and cut while it stands.
//!
//! Invariants: a line that stalls holds bytes back and loses none; on one that is lost, what is
//! written vanishes and nothing comes any more, also after the line is open again; a cut breaks the
//! connection at once. Used on both sides: the server's faults and a test's network.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};
use tokio_stream::{Stream, wrappers::WatchStream};
use tonic::transport::server::Connected;

/// How long the peer of a lost connection goes on believing in it, at least.
const BELIEVED_FOR: Duration = Duration::from_mins(5);

/// What becomes of the bytes on a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Path {
    /// They arrive.
    #[default]
    Open,
    /// Nobody listens: connections break off, new ones are refused.
    Refused,
    /// They are held back until it is open again.
    Stalled,
    /// They vanish: connections that stand are half-open for ever, new ones wait.
    Lost,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    path: Path,
    n_cuts: u64,
}

/// Something between two peers; clones are the same line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    state: watch::Sender<State>,
}

impl Line {
    /// From now on this becomes of the bytes.
    pub(crate) fn set(&self, path: Path) {
        self.state.send_modify(|state| {
            state.path = path;
            state.n_cuts += u64::from(path == Path::Refused);
        });
    }

    /// Breaks the connections off that stand.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.n_cuts += 1);
    }

    /// Waits until a new connection gets through.
    pub(crate) async fn open(&self) -> io::Result<()> {
        let mut states = self.state.subscribe();
        let passes = |state: &State| matches!(state.path, Path::Open | Path::Refused);
        match states.wait_for(passes).await {
            Ok(state) if state.path == Path::Open => Ok(()),
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

/// One line as a connection sees it.
#[derive(Debug)]
struct Seen {
    /// Keeps the updates coming.
    line: Line,
    updates: WatchStream<State>,
    now: State,
    n_cuts_at_birth: u64,
}

impl Seen {
    fn new(line: Line) -> Self {
        let states = line.state.subscribe();
        let now = *states.borrow();
        Self {
            updates: WatchStream::new(states),
            line,
            now,
            n_cuts_at_birth: now.n_cuts,
        }
    }
}

/// A connection over some lines.
#[derive(Debug)]
pub(crate) struct Wire<S: Send + 'static> {
    /// Taken when it is dropped.
    inner: Option<S>,
    lines: Vec<Seen>,
    is_lost: bool,
}

/// What may pass now.
enum Passage {
    Free,
    /// Nothing, until a line changes.
    None,
    /// Nothing, for ever.
    Lost,
    Broken,
}

impl<S: Send + 'static> Wire<S> {
    pub(crate) fn new(inner: S, lines: Vec<Line>) -> Self {
        Self {
            inner: Some(inner),
            lines: lines.into_iter().map(Seen::new).collect(),
            is_lost: false,
        }
    }

    /// Looks at the lines, and has the task woken when one changes.
    fn passage(&mut self, cx: &mut Context<'_>) -> Passage {
        let mut is_stalled = false;
        let mut is_broken = false;
        for seen in &mut self.lines {
            while let Poll::Ready(Some(state)) = Pin::new(&mut seen.updates).poll_next(cx) {
                seen.now = state;
                self.is_lost |= state.path == Path::Lost;
            }
            is_broken |= seen.now.n_cuts != seen.n_cuts_at_birth;
            is_stalled |= seen.now.path != Path::Open;
        }
        if is_broken {
            Passage::Broken
        } else if self.is_lost {
            Passage::Lost
        } else if is_stalled {
            Passage::None
        } else {
            Passage::Free
        }
    }
}

fn broken() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl<S: AsyncRead + Unpin + Send + 'static> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match (this.passage(cx), &mut this.inner) {
            (Passage::Free, Some(inner)) => Pin::new(inner).poll_read(cx, buffer),
            (Passage::None | Passage::Lost, _) => Poll::Pending,
            (Passage::Broken | Passage::Free, _) => Poll::Ready(Err(broken())),
        }
    }
}

impl<S: AsyncWrite + Unpin + Send + 'static> AsyncWrite for Wire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match (this.passage(cx), &mut this.inner) {
            (Passage::Free, Some(inner)) => Pin::new(inner).poll_write(cx, bytes),
            (Passage::None, _) => Poll::Pending,
            (Passage::Lost, _) => Poll::Ready(Ok(bytes.len())),
            (Passage::Broken | Passage::Free, _) => Poll::Ready(Err(broken())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Some(inner) => Pin::new(inner).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match (this.passage(cx), &mut this.inner) {
            (Passage::Free, Some(inner)) => Pin::new(inner).poll_shutdown(cx),
            // The peer hears nothing of it.
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl<S: Connected + Send + 'static> Connected for Wire<S> {
    type ConnectInfo = Option<S::ConnectInfo>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.inner.as_ref().map(Connected::connect_info)
    }
}

impl<S: Send + 'static> Drop for Wire<S> {
    /// The peer of a connection that bytes do not pass on does not hear of its end either.
    fn drop(&mut self) {
        let passes = |seen: &Seen| seen.line.state.borrow().path == Path::Open;
        let is_heard = !self.is_lost && self.lines.iter().all(passes);
        if let Some(inner) = self.inner.take()
            && !is_heard
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                tokio::time::sleep(BELIEVED_FOR).await;
                drop(inner);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::timeout;

    use super::*;

    fn pair(line: &Line) -> (Wire<DuplexStream>, DuplexStream) {
        let (near, far) = duplex(64);
        (Wire::new(near, vec![line.clone()]), far)
    }

    async fn read(stream: &mut DuplexStream) -> Option<u8> {
        timeout(Duration::from_secs(1), stream.read_u8())
            .await
            .ok()?
            .ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_delays_and_a_loss_is_for_ever() {
        let line = Line::default();
        let (mut wire, mut far) = pair(&line);
        line.set(Path::Stalled);
        let writer = tokio::spawn(async move {
            wire.write_u8(1).await.unwrap();
            wire
        });
        assert_eq!(read(&mut far).await, None);
        line.set(Path::Open);
        assert_eq!(read(&mut far).await, Some(1));

        let mut wire = writer.await.unwrap();
        line.set(Path::Lost);
        wire.write_u8(2).await.unwrap();
        line.set(Path::Open);
        wire.write_u8(3).await.unwrap();
        assert_eq!(read(&mut far).await, None);
        drop(wire);
        let end = timeout(Duration::from_mins(1), far.read_u8()).await;
        assert!(
            end.is_err(),
            "the peer of a half-open connection hears nothing"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_breaks_what_stands_and_nothing_else() {
        let line = Line::default();
        let (mut wire, _far) = pair(&line);
        line.cut();
        let error = wire.write_u8(1).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        line.open().await.unwrap();
        line.set(Path::Refused);
        let error = line.open().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
