//! The live page: its files, and a stream of events for each browser that shows it. It knows no metric, only the
//! snapshots that it sends on.
//!
//! Everything is gathered once a second for all who watch, and not at all while nobody does. An event holds a snapshot of
//! this instance and one of each of its peers, or why there is none.

mod peer;
mod snapshot;

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::board::Board;
use super::stream::Stream;
use crate::limits::{LIVE_PERIOD, LIVE_SEND_BYTES, LIVE_WATCHERS_MAX, LIVE_WRITE_TIME_MAX};
use crate::net::Listen;

/// The page. It fetches nothing but what follows, from the same listener.
pub(super) const PAGE: &str = include_str!("page.html");
/// How it looks.
pub(super) const STYLE: &str = include_str!("page.css");
/// What it reads and writes.
pub(super) const NUMBERS: &str = include_str!("numbers.js");
/// What it draws.
pub(super) const CHARTS: &str = include_str!("charts.js");
/// What it does.
pub(super) const SCRIPT: &str = include_str!("page.js");

/// What the page may do: nothing but run its own script in its own style and listen to its own events.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                                 base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The head of a stream, whose length nobody knows. A browser that loses it comes back after a second.
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
                      X-Accel-Buffering: no\r\nConnection: close\r\n\r\nretry: 1000\n\n";

/// Those who watch, and what they are sent.
pub(super) struct Live {
    board: Arc<Board>,
    started: SystemTime,
    peers: Vec<Listen>,
    places: Arc<Semaphore>,
    /// The last one, as it is sent: written once for all.
    events: watch::Sender<Arc<str>>,
    somebody: Notify,
}

/// A place among those who watch.
pub(super) struct Place {
    _held: OwnedSemaphorePermit,
}

#[derive(Serialize)]
struct Event<'a> {
    instances: Vec<Instance<'a>>,
}

/// One instance of an event. Its snapshot is the text of a JSON document, as the instance wrote it: what a peer sends is
/// read by nobody but the page.
#[derive(Serialize)]
struct Instance<'a> {
    /// Where its operators' listener is; nothing for the instance that is asked.
    peer: Option<&'a str>,
    snapshot: Option<String>,
    /// Why there is no snapshot.
    away: Option<String>,
}

impl Live {
    pub(super) fn new(board: Arc<Board>, started: SystemTime, peers: Vec<Listen>) -> Arc<Live> {
        let places = Arc::new(Semaphore::new(LIVE_WATCHERS_MAX));
        let events = watch::Sender::new(Arc::from(""));
        Arc::new(Live { board, started, peers, places, events, somebody: Notify::new() })
    }

    /// A place, while there is one.
    pub(super) fn enter(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(|held| Place { _held: held })
    }

    /// Gathers once a period while somebody watches, for ever.
    pub(super) async fn gather(&self) {
        loop {
            if self.events.receiver_count() == 0 {
                self.somebody.notified().await;
            }
            let next = Instant::now() + LIVE_PERIOD;
            let event = format!("data: {}\n\n", self.event().await);
            self.events.send_replace(event.into());
            sleep_until(next).await;
        }
    }

    /// Sends every event to one who watches, until it leaves or takes an event too slowly. One that only says that it has
    /// nothing more to ask goes on: whether it has left shows when an event is written.
    ///
    /// # Errors
    ///
    /// The connection was lost.
    pub(super) async fn show(&self, stream: &mut Stream, _place: Place) -> io::Result<()> {
        stream.keep_at_most(LIVE_SEND_BYTES)?;
        let mut events = self.events.subscribe();
        self.somebody.notify_one();
        in_time(stream.write_all(HEAD)).await?;
        let (mut received, mut listens_only) = (Vec::new(), false);
        loop {
            tokio::select! {
                changed = events.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let event = Arc::clone(&events.borrow_and_update());
                    in_time(stream.write_all(event.as_bytes())).await?;
                }
                read = stream.read(&mut received), if !listens_only => match read? {
                    0 => listens_only = true,
                    // Whoever watches has nothing to say.
                    _ => return Ok(()),
                },
            }
        }
    }

    /// The snapshot of this instance.
    pub(super) async fn now(&self) -> String {
        snapshot::text(&self.board, &self.board.ask().await, self.started)
    }

    /// One line of JSON.
    async fn event(&self) -> String {
        let own = async { Instance { peer: None, snapshot: Some(self.now().await), away: None } };
        let peers = join_all(self.peers.iter().map(async |peer| {
            let asked = peer::ask(peer).await;
            (peer.to_string(), asked)
        }));
        let (own, peers) = tokio::join!(own, peers);
        let peers = peers.iter().map(|(peer, asked)| Instance {
            peer: Some(peer),
            snapshot: asked.as_ref().ok().cloned(),
            away: asked.as_ref().err().cloned(),
        });
        let event = Event { instances: std::iter::once(own).chain(peers).collect() };
        sonic_rs::to_string(&event).expect("texts are JSON")
    }
}

async fn in_time(write: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    timeout(LIVE_WRITE_TIME_MAX, write).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
