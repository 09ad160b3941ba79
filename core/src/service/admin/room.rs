//! The places of an admin port's connections: bounded, and never held by silence.
//!
//! Invariants: whoever comes gets a place unless all others are being answered; who never asked
//! anything goes before who did, and who has been silent longest goes first. Knows no sockets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Places for connections.
#[derive(Debug)]
pub(super) struct Room {
    most: usize,
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    /// The number of the last one.
    last: u64,
    present: HashMap<u64, Guest>,
}

#[derive(Debug)]
struct Guest {
    has_asked: bool,
    /// Since when it is silent; `None` while it is being answered.
    silent: Option<Instant>,
    /// It has to make room.
    evicted: CancellationToken,
}

/// A connection's place; dropping it makes room.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    number: u64,
    evicted: CancellationToken,
}

impl Room {
    /// Room for `most` connections.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            guests: Mutex::default(),
        })
    }

    /// A place for one more; whoever has been silent longest ends for it. `None` when all places are
    /// taken by connections that are being answered.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut guests = self.guests();
        if guests.present.len() >= self.most {
            let silent = guests.present.iter();
            let longest = silent
                .filter_map(|(number, guest)| Some((guest.has_asked, guest.silent?, *number)))
                .min()?;
            let (_, _, number) = longest;
            let guest = guests.present.remove(&number)?;
            guest.evicted.cancel();
        }
        guests.last += 1;
        let number = guests.last;
        let evicted = CancellationToken::new();
        let guest = Guest {
            has_asked: false,
            silent: Some(Instant::now()),
            evicted: evicted.clone(),
        };
        guests.present.insert(number, guest);
        drop(guests);
        Some(Place {
            room: Arc::clone(self),
            number,
            evicted,
        })
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Cancelled once the connection has to make room.
    pub(super) fn evicted(&self) -> &CancellationToken {
        &self.evicted
    }

    /// A whole request came: the connection stays until it is answered.
    pub(super) fn asked(&self) {
        self.change(|guest| {
            guest.has_asked = true;
            guest.silent = None;
        });
    }

    /// The answer is ready: it is up to the client again.
    pub(super) fn answered(&self) {
        self.change(|guest| guest.silent = Some(Instant::now()));
    }

    fn change(&self, change: impl FnOnce(&mut Guest)) {
        let mut guests = self.room.guests();
        if let Some(guest) = guests.present.get_mut(&self.number) {
            change(guest);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.guests().present.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_silent_makes_room_and_who_never_asked_before_who_did() {
        let room = Room::new(3);
        let mut places = Vec::new();
        for _ in 0..3 {
            places.push(room.enter().unwrap());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        places[0].asked();
        places[0].answered();
        let has_to_go = |places: &[Place]| {
            let gone = places.iter().map(|place| place.evicted().is_cancelled());
            gone.collect::<Vec<bool>>()
        };
        let fourth = room.enter().unwrap();
        assert_eq!(has_to_go(&places), [false, true, false]);
        // What has left already makes room without anybody else going.
        drop(fourth);
        let fourth = room.enter().unwrap();
        assert_eq!(has_to_go(&places), [false, true, false]);
        places[0].asked();
        places[2].asked();
        fourth.asked();
        assert!(room.enter().is_none(), "all are being answered");
        places[0].answered();
        let fifth = room.enter().unwrap();
        assert_eq!(has_to_go(&places), [true, true, false]);
        assert!(!fourth.evicted().is_cancelled() && !fifth.evicted().is_cancelled());
    }
}
