//! One run of a plan: a simulated registry, its clients, and a look at everything every 50 ms.

use std::sync::Arc;
use std::time::Duration;

use skynet::instance::{Identity, InstanceId, ProcessId, State};
use skynet::registry::embedded::{Faults, Leases, Path};
use skynet::registry::link::Link;
use skynet::registry::value::{HostValue, InstanceValue};
use skynet::registry::{HostRegistration, Registration, Registry, View};
use skynet::testing::{Network, SimulatedRegistry};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::model::{Disturbed, Model};
use super::plan::{Action, Fault, PROCESSES, Plan, READERS};

const PREFIX: &str = "/random";
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Behind the last fault: everything must settle, and what is suspected must be given up.
const AFTERWARDS: Duration = Duration::from_mins(1);
/// The most entries of one program.
const ENTRIES: u128 = 3;

/// What went wrong, and when.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) at: Duration,
    pub(crate) what: String,
}

/// A program that holds entries.
struct Program {
    registry: Registry,
    registrations: Vec<Registration>,
    host: Option<HostRegistration>,
}

/// A fault that goes on.
struct Standing {
    fault: Fault,
    until: Instant,
}

/// Whether an operator's wish was written; the number is that of the wish.
struct Wished {
    id: InstanceId,
    number: u64,
    outcome: Option<bool>,
}

pub(crate) struct World {
    began: Instant,
    server: SimulatedRegistry,
    faults: Faults,
    model: Model,
    networks: Vec<Network>,
    programs: Vec<Option<Program>>,
    generation: u128,
    reader_networks: Vec<Network>,
    views: Vec<(Registry, Arc<View>)>,
    operator: Registry,
    standing: Vec<Standing>,
    /// Programs on their way out, and wishes on their way in.
    background: JoinSet<()>,
    left: (mpsc::Sender<usize>, mpsc::Receiver<usize>),
    wished: (mpsc::Sender<Wished>, mpsc::Receiver<Wished>),
    n_wishes: u64,
    /// Programs that are saying that they leave.
    leaving: [bool; PROCESSES],
}

impl World {
    fn new(plan: &Plan) -> Self {
        let server = SimulatedRegistry::with_endpoints(plan.n_endpoints);
        let reader_networks: Vec<Network> = (0..READERS).map(|_| Network::default()).collect();
        let views = reader_networks
            .iter()
            .map(|network| {
                let registry = server.client_over(&server.config(PREFIX), network);
                let view = registry.view();
                (registry, view)
            })
            .collect();
        let now = Instant::now();
        Self {
            began: now,
            faults: server.faults(),
            model: Model::new(now),
            networks: (0..PROCESSES).map(|_| Network::default()).collect(),
            programs: (0..PROCESSES).map(|_| None).collect(),
            generation: 0,
            reader_networks,
            views,
            operator: server.client(PREFIX),
            server,
            standing: Vec::new(),
            background: JoinSet::new(),
            left: mpsc::channel(64),
            wished: mpsc::channel(64),
            n_wishes: 0,
            leaving: [false; PROCESSES],
        }
    }

    /// Runs the plan to its end, or to the first violation.
    pub(crate) async fn run(plan: &Plan) -> Result<(), Violation> {
        let mut world = Self::new(plan);
        let mut steps = plan.steps.iter().peekable();
        let mut end = None;
        loop {
            let elapsed = world.began.elapsed();
            while let Some(step) = steps.next_if(|step| step.at <= elapsed) {
                world.act(&step.action).await;
            }
            world.end_faults();
            world
                .look()
                .map_err(|what| Violation { at: elapsed, what })?;
            if steps.peek().is_none() && world.standing.is_empty() {
                let end = *end.get_or_insert(Instant::now() + AFTERWARDS);
                if Instant::now() >= end {
                    return Ok(());
                }
            }
            sleep_until(Instant::now() + LOOK_EVERY).await;
        }
    }

    async fn act(&mut self, action: &Action) {
        let now = Instant::now();
        match action {
            Action::Join(process) => self.join(*process),
            Action::Leave(process) => self.leave(*process),
            Action::Die(process) => {
                if !self.leaving[*process] && self.programs[*process].take().is_some() {
                    self.model.ended(*process, now);
                }
            }
            Action::SetState(process, state) => {
                if let (Some(program), false) = (&self.programs[*process], self.leaving[*process]) {
                    for registration in &program.registrations {
                        registration.set_state(*state);
                    }
                    for truth in self.model.living(*process) {
                        truth.state = *state;
                        truth.changed = now;
                    }
                }
            }
            Action::Wish(process, wish) => self.wish(*process, *wish),
            Action::Fault(fault, time) => {
                // One of a kind at a time: the earlier one ends.
                let same = |standing: &Standing| standing.fault.name() == fault.name();
                if let Some(idx) = self.standing.iter().position(same) {
                    let earlier = self.standing.remove(idx);
                    self.end(earlier.fault, now);
                }
                self.begin(*fault).await;
                if lasts(fault) {
                    let (fault, until) = (*fault, now + *time);
                    self.standing.push(Standing { fault, until });
                }
            }
        }
    }

    fn join(&mut self, process: usize) {
        if self.programs[process].is_some() {
            return;
        }
        let now = Instant::now();
        self.generation += 1;
        let registry = self
            .server
            .client_over(&self.server.config(PREFIX), &self.networks[process]);
        let n_entries = 1 + self.generation % ENTRIES;
        let registrations = (0..n_entries)
            .map(|entry| {
                let id = InstanceId::from_u128(self.generation * 100 + entry + 1);
                self.model.came(id, process, now);
                let (identity, value) = self.entry(process, id, entry);
                registry.register(identity, value)
            })
            .collect();
        let host = process.is_multiple_of(2).then(|| {
            let value = HostValue {
                region: "east".into(),
                address: ([127, 0, 0, 1], 9).into(),
                process: self.process_id(process),
                started: jiff::Timestamp::UNIX_EPOCH,
                version: String::new(),
                other: serde_json::Map::new(),
            };
            registry.register_host(format!("host-{process}").into(), value)
        });
        self.programs[process] = Some(Program {
            registry,
            registrations,
            host,
        });
    }

    /// Another boot for every start, so that nobody is ever taken for dead by a look at this
    /// machine's processes.
    fn process_id(&self, process: usize) -> ProcessId {
        ProcessId {
            boot_id: format!("boot-{process}-{}", self.generation).into(),
            pid: 7,
            process_start: 70,
        }
    }

    fn entry(&self, process: usize, id: InstanceId, entry: u128) -> (Identity, InstanceValue) {
        let identity = Identity {
            service: if process < 3 { "Echo" } else { "Tango" }.into(),
            version: "1".into(),
            region: "east".into(),
            host: format!("host-{process}-{}", self.generation).into(),
            id,
        };
        let port = 9000 + u16::try_from(entry).unwrap();
        let value = InstanceValue {
            address: ([127, 0, 0, 1], port).into(),
            admin_address: None,
            process: self.process_id(process),
            started: jiff::Timestamp::UNIX_EPOCH,
            registered: true,
            state: State::Ready,
            reason: None,
            deployment: None,
            weight: 100,
            lease: 0,
            protocol: 1,
            tags: Vec::new(),
            other: serde_json::Map::new(),
        };
        (identity, value)
    }

    /// As a service does: every entry leaves, then the lease is given back, and all ends.
    fn leave(&mut self, process: usize) {
        if self.leaving[process] {
            return;
        }
        let Some(program) = self.programs[process].take() else {
            return;
        };
        self.leaving[process] = true;
        let left = self.left.0.clone();
        // From now on it may be missing, so the truth is that it has ended.
        self.model.ended(process, Instant::now());
        self.background.spawn(async move {
            let mut leaving = JoinSet::new();
            for registration in program.registrations {
                leaving.spawn(registration.leave());
            }
            if let Some(host) = program.host {
                leaving.spawn(host.leave());
            }
            leaving.join_all().await;
            // It ends with its time to live if the registry does not answer.
            let _ = program.registry.release().await;
            drop(program.registry);
            let _ = left.send(process).await;
        });
    }

    fn wish(&mut self, process: usize, wish: bool) {
        if self.leaving[process] {
            return;
        }
        let Some(truth) = self.model.living(process).next() else {
            return;
        };
        self.n_wishes += 1;
        truth.wish = None;
        truth.has_heard = false;
        let (id, number) = (truth.id, self.n_wishes);
        let lease = self.key(id).map_or(0, |standing| standing.lease);
        if let Some(truth) = self.model.living(process).next() {
            truth.wished_on = lease;
        }
        let entry = id.as_u128() % 100 - 1;
        // The generation that the instance was made in is in its id.
        let generation = std::mem::replace(&mut self.generation, id.as_u128() / 100);
        let (identity, _) = self.entry(process, id, entry);
        self.generation = generation;
        let (operator, wished) = (self.operator.clone(), self.wished.0.clone());
        self.background.spawn(async move {
            let outcome = operator.set_registered(&identity, wish).await;
            let outcome = outcome.ok().map(|()| wish);
            let _ = wished
                .send(Wished {
                    id,
                    number,
                    outcome,
                })
                .await;
        });
    }

    async fn begin(&mut self, fault: Fault) {
        let now = Instant::now();
        let faults = self.faults.clone();
        if !matches!(fault, Fault::ProcessNetwork(..) | Fault::ReaderNetwork(..)) {
            self.model.disturb(now);
        }
        match fault {
            Fault::Freeze(leases) => faults.freeze(leases),
            Fault::Silence(None) => faults.silence(true),
            Fault::Silence(Some(endpoint)) => faults.of_endpoint(endpoint).silence(true),
            Fault::Slow(time) => faults.answer_after(time),
            Fault::Refuse => faults.refuse(usize::MAX),
            Fault::Duplicate(n) => {
                faults.duplicate(n);
                faults.cut();
            }
            Fault::Reorder(n) => {
                faults.reorder(n);
                faults.cut();
            }
            Fault::Endpoint(endpoint, path) => self.server.set_path(endpoint, path),
            Fault::AllEndpoints(path) => {
                for endpoint in 0..3 {
                    self.server.set_path(endpoint, path);
                }
            }
            Fault::ProcessNetwork(process, path) => self.networks[process].set(path),
            Fault::ReaderNetwork(reader, path) => self.reader_networks[reader].set(path),
            Fault::Cut => faults.cut(),
            // It refuses when nothing was written since the last time, which is as good.
            Fault::CompactAndCut => {
                faults.cut();
                let _ = faults.compact().await;
            }
            Fault::Revoke(process) | Fault::RevokeSecretly(process) => {
                if let Some(lease) = self.lease_of(process) {
                    let done = if matches!(fault, Fault::Revoke(_)) {
                        faults.revoke(lease).await
                    } else {
                        faults.revoke_secretly(lease).await
                    };
                    done.unwrap();
                }
            }
            Fault::LoseData => faults.lose_data().await.unwrap(),
            Fault::ChangeClusterId => faults.change_cluster_id(),
            // As after `etcdctl snapshot restore`: with the old identity and newer writes nobody
            // could tell. What is compacted cannot come back.
            Fault::GoBack(n) => {
                faults.change_cluster_id();
                let _ = faults.go_back(faults.revision() - n).await;
            }
            Fault::LoseDataAndChangeClusterId => {
                faults.change_cluster_id();
                faults.lose_data().await.unwrap();
            }
        }
        if fault.breaks_history() {
            self.model.broke(now);
        }
    }

    fn lease_of(&mut self, process: usize) -> Option<i64> {
        let id = self.model.living(process).next()?.id;
        self.key(id)
            .map(|standing| standing.lease)
            .filter(|lease| *lease != 0)
    }

    fn key(&self, id: InstanceId) -> Option<skynet::registry::embedded::Standing> {
        let ending = format!("/{id}");
        let standing = self.faults.standing(&format!("{PREFIX}/instances/"));
        standing.into_iter().find(|one| one.key.ends_with(&ending))
    }

    fn end_faults(&mut self) {
        let now = Instant::now();
        let (over, standing) = std::mem::take(&mut self.standing)
            .into_iter()
            .partition(|standing| standing.until <= now);
        self.standing = standing;
        let over: Vec<Standing> = over;
        for Standing { fault, .. } in over {
            self.end(fault, now);
        }
    }

    fn end(&mut self, fault: Fault, now: Instant) {
        let faults = &self.faults;
        match fault {
            Fault::Freeze(_) => {
                faults.thaw();
                self.model.renewed_all(now);
            }
            Fault::Silence(_) => faults.silence(false),
            Fault::Slow(_) => faults.answer_after(Duration::ZERO),
            Fault::Refuse => faults.refuse(0),
            Fault::Duplicate(_) | Fault::Reorder(_) => faults.duplicate(0),
            Fault::Endpoint(..) | Fault::AllEndpoints(_) => {
                for endpoint in 0..3 {
                    self.server.set_path(endpoint, Path::Open);
                }
                self.standing.retain(|standing| {
                    !matches!(standing.fault, Fault::Endpoint(..) | Fault::AllEndpoints(_))
                });
            }
            Fault::ProcessNetwork(..) => {
                self.networks
                    .iter()
                    .for_each(|network| network.set(Path::Open));
            }
            Fault::ReaderNetwork(..) => {
                self.reader_networks
                    .iter()
                    .for_each(|network| network.set(Path::Open));
            }
            _ => {}
        }
    }

    fn look(&mut self) -> Result<(), String> {
        let now = Instant::now();
        while let Ok(process) = self.left.1.try_recv() {
            self.leaving[process] = false;
            for truth in &mut self.model.truths {
                if truth.process == process && truth.changed == truth.ended.unwrap_or(now) {
                    // The lease lived until the program ended.
                    truth.ended = truth.ended.map(|ended| ended.max(now));
                    truth.changed = now;
                }
            }
        }
        while let Ok(wished) = self.wished.1.try_recv() {
            for truth in &mut self.model.truths {
                if truth.id == wished.id && truth.ended.is_none() {
                    // Of two at once nobody knows which was last.
                    let is_last = wished.number == self.n_wishes;
                    truth.wish = wished.outcome.filter(|_| is_last);
                    truth.changed = now;
                }
            }
        }
        let disturbed = self.disturbed();
        self.model.pass(&disturbed, now);
        let standing = self.faults.standing(&format!("{PREFIX}/instances/"));
        for (process, program) in self.programs.iter().enumerate() {
            // Wishes are for the first instance of a program.
            let first = self.model.living(process).next().map(|truth| truth.id);
            let told = program
                .as_ref()
                .and_then(|program| program.registrations.first());
            if let (Some(id), Some(registration)) = (first, told) {
                let ending = format!("/{id}");
                let lease = standing
                    .iter()
                    .find(|one| one.key.ends_with(&ending))
                    .map_or(0, |one| one.lease);
                self.model
                    .follow_wish(id, *registration.wish().borrow(), lease);
            }
        }
        let stands = |id: InstanceId| {
            let ending = format!("/{id}");
            standing.iter().any(|one| one.key.ends_with(&ending))
        };
        self.model.check_registry(stands, now)?;
        for (reader, (_, view)) in self.views.iter().enumerate() {
            let is_protected = matches!(*view.link().borrow(), Link::Protected { .. });
            let snapshot = view.snapshot();
            self.model
                .check_view(reader, &snapshot, is_protected, now)?;
        }
        Ok(())
    }

    fn disturbed(&self) -> Disturbed {
        let mut disturbed = Disturbed::default();
        for (process, leaving) in self.leaving.iter().enumerate() {
            disturbed.processes[process] |= leaving;
        }
        for Standing { fault, .. } in &self.standing {
            match fault {
                Fault::ProcessNetwork(process, _) => disturbed.processes[*process] = true,
                Fault::ReaderNetwork(reader, _) => disturbed.readers[*reader] = true,
                other => {
                    disturbed.all = true;
                    disturbed.leases_stand |= *other == Fault::Freeze(Leases::Stand);
                }
            }
        }
        disturbed
    }
}

/// Whether a fault goes on, or happens in a moment.
fn lasts(fault: &Fault) -> bool {
    !matches!(
        fault,
        Fault::Cut
            | Fault::CompactAndCut
            | Fault::Revoke(_)
            | Fault::RevokeSecretly(_)
            | Fault::LoseData
            | Fault::ChangeClusterId
            | Fault::GoBack(_)
            | Fault::LoseDataAndChangeClusterId
    )
}
