//! One frame, and one new view of the cluster, at 100,000 instances on a screen of 120x36.
//!
//! Budget: a frame takes at most 1 ms, however many instances there are.

#![allow(missing_docs, reason = "the macros of criterion make public items")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use skynet::instance::{Host, Identity, Instance, InstanceId, ProcessId, State as InstanceState};
use skynet::registry::link::Link;
use skynet::registry::snapshot::{Change, Snapshot};
use skynet_console::theme::Theme;
use skynet_console::tui::action::{Action, Command, Motion};
use skynet_console::tui::state::{Moment, Place, State};
use skynet_console::tui::update::update;
use skynet_console::tui::view::view;

const INSTANCES: u32 = 100_000;
const HOSTS: u32 = 1_000;
const SIZE: (u16, u16) = (120, 36);

fn process(pid: u32) -> ProcessId {
    ProcessId {
        boot_id: Arc::from("boot"),
        pid,
        process_start: 1,
    }
}

fn instance(number: u32) -> Instance {
    let host = number % HOSTS;
    let [_, _, third, fourth] = host.to_be_bytes();
    let port = u16::try_from(9_000 + number / HOSTS).unwrap_or(u16::MAX);
    Instance {
        identity: Identity {
            service: format!("service-{:03}", number % 200).into(),
            version: format!("1.{}.{}", number % 3, number % 5).into(),
            region: format!("region-{}", host % 8).into(),
            host: format!("host-{host:04}").into(),
            id: InstanceId::from_u128(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        },
        address: Some(([10, 0, third, fourth], port).into()),
        admin_address: None,
        registered: !number.is_multiple_of(50),
        state: InstanceState::Ready,
        reason: None,
        process: Some(process(number)),
        started: Timestamp::UNIX_EPOCH,
        deployment: None,
        weight: 100,
        lease: 1,
        tags: Vec::new(),
        mod_revision: i64::from(number),
    }
}

fn host(number: u32) -> Host {
    let [_, _, third, fourth] = number.to_be_bytes();
    Host {
        name: format!("host-{number:04}").into(),
        region: format!("region-{}", number % 8).into(),
        address: ([10, 0, third, fourth], 8_000).into(),
        process: process(number),
        started: Timestamp::UNIX_EPOCH,
        mod_revision: 1,
    }
}

fn console() -> State {
    let now = Moment::present();
    let snapshot = Snapshot::of((0..INSTANCES).map(instance), (0..HOSTS).map(host));
    let mut state = State::new(now, Place::default());
    update(&mut state, Action::Resize(SIZE.0, SIZE.1));
    update(&mut state, Action::Data(Arc::new(snapshot)));
    update(&mut state, Action::Link(Link::Live { heard: now.mono }));
    state
}

fn frame(criterion: &mut Criterion) {
    let state = console();
    let theme = Theme::terminal();
    let mut buffer = Buffer::empty(Rect::new(0, 0, SIZE.0, SIZE.1));
    criterion.bench_function("frame of 120x36 at 100,000 instances", |bencher| {
        bencher.iter(|| {
            buffer.reset();
            black_box(view(&state, &theme, &mut buffer))
        });
    });
}

fn key(criterion: &mut Criterion) {
    let mut state = console();
    let mut down = true;
    criterion.bench_function(
        "key that moves the cursor at 100,000 instances",
        |bencher| {
            bencher.iter(|| {
                let motion = if down { Motion::Down } else { Motion::Up };
                down = !down;
                black_box(update(&mut state, Action::Run(Command::Move(motion))))
            });
        },
    );
}

fn snapshot(criterion: &mut Criterion) {
    let mut state = console();
    let mut next = Snapshot::clone(&state.snapshot);
    let mut number = 0;
    let mut group = criterion.benchmark_group("update at 100,000 instances");
    group.sample_size(20);
    group.bench_function("new snapshot", |bencher| {
        bencher.iter(|| {
            number += 1;
            let mut changed = instance(number % INSTANCES);
            changed.registered = number.is_multiple_of(2);
            next.apply(Change::PutInstance(Arc::new(changed)));
            black_box(update(&mut state, Action::Data(Arc::new(next.clone()))))
        });
    });
    group.finish();
}

fn keystroke(criterion: &mut Criterion) {
    let mut state = console();
    update(&mut state, Action::Run(Command::Filter));
    let mut group = criterion.benchmark_group("filter at 100,000 instances");
    group.sample_size(20);
    for (name, text) in [
        ("exact term", "service=service-007"),
        ("substring", "service:07 region:3"),
        ("fuzzy word", "srvc07"),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                update(&mut state, Action::Paste(text.to_owned()));
                black_box(update(
                    &mut state,
                    Action::Run(Command::Edit(
                        skynet_console::tui::action::Edit::DeleteToStart,
                    )),
                ))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, frame, key, snapshot, keystroke);
criterion_main!(benches);
