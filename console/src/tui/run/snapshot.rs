//! One frame as text, without a terminal: `sky top --snapshot 120x36`.

use std::time::Duration;

use tokio::time::timeout;

use super::super::action::Action;
use super::super::effect::Effect;
use super::super::state::{Moment, State};
use super::super::update::update;
use super::super::view::snapshot_frame;
use super::TuiConfig;

/// How long hosts have to answer for the one frame.
const STATS_WITHIN: Duration = Duration::from_millis(500);

/// What the console would show on a screen of this size, after at most `within` for the registry to
/// answer; when it does not answer, the frame says so.
///
/// # Cancel safety
/// Reads only.
pub async fn snapshot(config: TuiConfig, (width, height): (u16, u16), within: Duration) -> String {
    let session = &config.session;
    let view = session.view();
    let mut state = State::new(Moment::present(), config.place.clone());
    state.view = config.view;
    state.filter.set_text(&config.filter);
    update(&mut state, Action::Resize(width, height));
    // Whether it was in time is seen from the link.
    let _in_time = timeout(within, view.ready()).await;
    update(&mut state, Action::Clock(Moment::present()));
    if let Some(traffic) = config.traffic {
        let counters = traffic.borrow().clone();
        update(&mut state, Action::Traffic(counters));
    }
    let link = *view.link().borrow();
    let mut effects = update(&mut state, Action::Data(view.snapshot()));
    effects.extend(update(&mut state, Action::Link(link)));
    for effect in effects {
        if let Effect::Stats { ticket, instances } = effect {
            let measured = session
                .measure(&instances, &state.snapshot, STATS_WITHIN)
                .await;
            update(&mut state, Action::Clock(Moment::present()));
            let outcome = super::super::effect::Outcome::Stats(measured.instances);
            update(&mut state, Action::Finished(ticket, outcome));
        }
    }
    snapshot_frame(&state, &config.theme)
}
