//! The one table: every figure with its budget, the plain loop's figure, and the machine's load.

/// What a figure counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Seconds,
    Milliseconds,
    MiB,
    KiBPerMinute,
    Count,
    Percent,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.2} s"),
            Self::Milliseconds => format!("{value:.1} ms"),
            Self::MiB => format!("{value:.1} MiB"),
            Self::KiBPerMinute => format!("{value:.0} KiB/min"),
            Self::Count => format!("{value:.0}"),
            Self::Percent => format!("{value:.0} %"),
        }
    }
}

/// One line.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) registry: &'static str,
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) unit: Unit,
    /// What it may be at most.
    pub(crate) budget: Option<f64>,
    /// What the plain loop needs.
    pub(crate) plain: Option<f64>,
}

impl Figure {
    pub(crate) fn new(
        registry: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: Unit,
    ) -> Self {
        Self {
            registry,
            what: what.into(),
            value,
            unit,
            budget: None,
            plain: None,
        }
    }

    pub(crate) fn at_most(mut self, budget: f64) -> Self {
        self.budget = Some(budget);
        self
    }

    pub(crate) fn beside(mut self, plain: f64) -> Self {
        self.plain = Some(plain);
        self
    }
}

/// Prints figures as they come, and remembers whether every budget was kept.
#[derive(Debug)]
pub(crate) struct Table {
    held: bool,
}

impl Table {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        println!("{cores} cores, load {}", load(3));
        println!(
            "{:<9} {:<50} {:>12} {:>12} {:>5} {:>12} {:>7} {:>6}",
            "registry", "what", "measured", "budget", "held", "plain", "/ plain", "load"
        );
        Self { held: true }
    }

    pub(crate) fn add(&mut self, figure: &Figure) {
        let held = figure.budget.map(|budget| figure.value <= budget);
        self.held &= held.unwrap_or(true);
        let show = |value: Option<f64>| value.map_or_else(String::new, |it| figure.unit.show(it));
        let ratio = figure.plain.filter(|plain| *plain > 0.0);
        println!(
            "{:<9} {:<50} {:>12} {:>12} {:>5} {:>12} {:>7} {:>6}",
            figure.registry,
            figure.what,
            show(Some(figure.value)),
            show(figure.budget),
            held.map_or("", |held| if held { "yes" } else { "NO" }),
            show(figure.plain),
            ratio.map_or_else(String::new, |plain| format!("{:.2}", figure.value / plain)),
            load(1),
        );
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held
    }
}

/// The first `n` of the load averages over 1, 5 and 15 minutes.
fn load(n: usize) -> String {
    let averages = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let averages: Vec<&str> = averages.split(' ').take(n).collect();
    averages.join(" ")
}

/// The value below which a share of the sorted values lies; 0 of none.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place among a few thousand values"
    )]
    let place = (values.len() as f64 * share).ceil() as usize;
    values
        .get(place.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}
