//! The columns of each view: their titles, which of them fit, which need measurements.
//!
//! Invariants: columns leave in the order of [`Column::leaves`]; the first name, the address, the
//! registration and the column of the order never leave. Pure.

use super::state::ViewKind;
use super::state::table::{Sort, Table};

/// What separates two columns.
pub const GAP: u16 = 2;

/// The cells before the first column: the row's sign and a space.
pub const GUTTER: u16 = 2;

/// No column of names is wider; longer names are cut with a sign.
const MAX_WIDTH: u16 = 32;

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Column {
    /// The region's name.
    Region,
    /// The host's name.
    Host,
    /// The service's name.
    Service,
    /// The service's version.
    Version,
    /// `ip:port`, or the host's address.
    Address,
    /// Registered or not, and the state unless it is ready.
    Registered,
    /// How many are ready.
    Up,
    /// How many are registered.
    Reg,
    /// How many there are.
    Total,
    /// On how many hosts.
    Hosts,
    /// Connections.
    Clients,
    /// Time since the start.
    Uptime,
    /// Requests served.
    Requests,
    /// The last samples of the rate.
    Trend,
    /// Requests per second.
    Rate,
    /// Mean response time.
    Average,
    /// The slowest one's mean response time.
    Worst,
    /// Time since the last request.
    Last,
    /// The versions of a service, or the services of a host or region.
    Names,
}

impl Column {
    /// Every column.
    pub const ALL: [Self; 19] = [
        Self::Region,
        Self::Host,
        Self::Service,
        Self::Version,
        Self::Address,
        Self::Registered,
        Self::Up,
        Self::Reg,
        Self::Total,
        Self::Hosts,
        Self::Clients,
        Self::Uptime,
        Self::Requests,
        Self::Trend,
        Self::Rate,
        Self::Average,
        Self::Worst,
        Self::Last,
        Self::Names,
    ];

    /// The columns of a view, in their order on the screen.
    pub const fn of(view: ViewKind) -> &'static [Self] {
        match view {
            ViewKind::Instances => &[
                Self::Service,
                Self::Version,
                Self::Region,
                Self::Host,
                Self::Address,
                Self::Registered,
                Self::Clients,
                Self::Uptime,
                Self::Requests,
                Self::Trend,
                Self::Rate,
                Self::Average,
                Self::Last,
            ],
            ViewKind::Regions => &[
                Self::Region,
                Self::Hosts,
                Self::Up,
                Self::Reg,
                Self::Total,
                Self::Clients,
                Self::Requests,
                Self::Rate,
                Self::Average,
                Self::Worst,
                Self::Names,
            ],
            ViewKind::Hosts => &[
                Self::Host,
                Self::Region,
                Self::Address,
                Self::Up,
                Self::Reg,
                Self::Total,
                Self::Clients,
                Self::Requests,
                Self::Rate,
                Self::Average,
                Self::Worst,
                Self::Names,
            ],
            ViewKind::Services => &[
                Self::Service,
                Self::Hosts,
                Self::Up,
                Self::Reg,
                Self::Total,
                Self::Clients,
                Self::Requests,
                Self::Rate,
                Self::Average,
                Self::Worst,
                Self::Names,
            ],
            ViewKind::Versions => &[
                Self::Service,
                Self::Version,
                Self::Hosts,
                Self::Up,
                Self::Reg,
                Self::Total,
                Self::Clients,
                Self::Requests,
                Self::Rate,
                Self::Average,
                Self::Worst,
            ],
        }
    }

    /// The title over the column in a view.
    pub const fn title(self, view: ViewKind) -> &'static str {
        match self {
            Self::Region => "REGION",
            Self::Host => "HOST",
            Self::Service => "SERVICE",
            Self::Version => "VERSION",
            Self::Address => match view {
                ViewKind::Hosts => "DAEMON",
                _ => "ADDRESS",
            },
            Self::Registered | Self::Reg => "REG",
            Self::Up => "UP",
            Self::Total => "TOTAL",
            Self::Hosts => "HOSTS",
            Self::Clients => "CLI",
            Self::Uptime => "UPTIME",
            Self::Requests => "REQS",
            Self::Trend => "",
            Self::Rate => "REQ/S",
            Self::Average => "AVG",
            Self::Worst => "WORST",
            Self::Last => "LAST",
            Self::Names => match view {
                ViewKind::Regions | ViewKind::Hosts => "SERVICES",
                _ => "VERSIONS",
            },
        }
    }

    /// What the list of columns to sort by says.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::Host => "host",
            Self::Service => "service",
            Self::Version => "version, part by part",
            Self::Address => "address",
            Self::Registered => "registered first, then by state",
            Self::Up => "how many are ready",
            Self::Reg => "how many are registered",
            Self::Total => "how many there are",
            Self::Hosts => "on how many hosts",
            Self::Clients => "connections",
            Self::Uptime => "time since the start",
            Self::Requests => "requests served",
            Self::Trend => "trend",
            Self::Rate => "requests per second",
            Self::Average => "mean response time",
            Self::Worst => "the slowest one's mean",
            Self::Last => "time since the last request",
            Self::Names => "names",
        }
    }

    /// Whether rows can be ordered by it.
    pub const fn sorts(self) -> bool {
        !matches!(self, Self::Trend | Self::Names)
    }

    /// Whether its numbers stand at the right.
    pub const fn is_number(self) -> bool {
        matches!(
            self,
            Self::Up
                | Self::Reg
                | Self::Total
                | Self::Hosts
                | Self::Clients
                | Self::Uptime
                | Self::Requests
                | Self::Rate
                | Self::Average
                | Self::Worst
                | Self::Last
        )
    }

    /// Whether it shows measurements, which hosts are asked for.
    pub const fn is_measured(self) -> bool {
        matches!(
            self,
            Self::Clients
                | Self::Requests
                | Self::Trend
                | Self::Rate
                | Self::Average
                | Self::Worst
                | Self::Last
        )
    }

    /// When it leaves a narrow table: the lowest first; `None` never.
    const fn leaves(self, view: ViewKind) -> Option<u8> {
        match (view, self) {
            (_, Self::Names) => Some(0),
            (_, Self::Trend) => Some(1),
            (_, Self::Requests) => Some(2),
            (_, Self::Uptime) => Some(3),
            (_, Self::Last) => Some(4),
            (ViewKind::Instances, Self::Host) => Some(5),
            (_, Self::Worst) => Some(6),
            (ViewKind::Instances | ViewKind::Hosts, Self::Region) => Some(7),
            (ViewKind::Hosts, Self::Address) | (_, Self::Hosts) => Some(8),
            (_, Self::Clients) => Some(9),
            (ViewKind::Instances, Self::Version) => Some(10),
            (_, Self::Rate) => Some(11),
            (_, Self::Average) => Some(12),
            (_, Self::Up) => Some(13),
            _ => None,
        }
    }

    /// The least width, so that numbers do not push their neighbors about.
    const fn least(self) -> u16 {
        match self {
            Self::Trend
            | Self::Rate
            | Self::Average
            | Self::Worst
            | Self::Requests
            | Self::Uptime => 6,
            Self::Clients | Self::Last => 4,
            _ => 3,
        }
    }

    /// How wide it is, given its widest cell so far.
    fn width(self, view: ViewKind, sort: Sort, widest: u16) -> u16 {
        if self == Self::Names {
            // It takes what is left, and is cut with a sign.
            return u16::try_from(self.title(view).len()).unwrap_or(u16::MAX);
        }
        let mark = u16::from(sort.column == self);
        let title = u16::try_from(self.title(view).len()).unwrap_or(u16::MAX);
        widest
            .max(title.saturating_add(mark))
            .max(self.least())
            .min(MAX_WIDTH)
    }
}

/// A column that is shown, with its place from the table's left edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The column.
    pub column: Column,
    /// Its first cell.
    pub x: u16,
    /// Its width.
    pub width: u16,
}

/// The columns that fit into `room` cells, in their order.
pub fn places(view: ViewKind, table: &Table, room: u16) -> Vec<Place> {
    let sort = table.sort;
    let mut columns: Vec<(Column, u16)> = Column::of(view)
        .iter()
        .map(|column| {
            (
                *column,
                column.width(view, sort, table.widths[*column as usize]),
            )
        })
        .collect();
    while needed(&columns) > room {
        let leaving = columns
            .iter()
            .enumerate()
            .filter(|(_, (column, _))| *column != sort.column)
            .filter_map(|(index, (column, _))| Some((column.leaves(view)?, index)))
            .min();
        match leaving {
            Some((_, index)) => drop(columns.remove(index)),
            None => break,
        }
    }
    let mut x = GUTTER;
    let mut places = Vec::with_capacity(columns.len());
    for (column, width) in columns {
        let left = room.saturating_sub(x);
        let width = if column == Column::Names {
            left
        } else {
            width.min(left)
        };
        if width == 0 {
            break;
        }
        places.push(Place { column, x, width });
        x = x.saturating_add(width).saturating_add(GAP);
    }
    places
}

fn needed(columns: &[(Column, u16)]) -> u16 {
    columns
        .iter()
        .fold(GUTTER, |sum, (_, width)| sum.saturating_add(width + GAP))
        .saturating_sub(GAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(view: ViewKind, room: u16) -> Vec<&'static str> {
        let table = Table::new(view);
        places(view, &table, room)
            .iter()
            .map(|place| place.column.title(view))
            .collect()
    }

    #[test]
    fn columns_stand_at_their_own_place() {
        for (index, column) in Column::ALL.into_iter().enumerate() {
            assert_eq!(column as usize, index);
        }
    }

    #[test]
    fn columns_leave_in_their_order() {
        assert_eq!(shown(ViewKind::Instances, 200).len(), 13);
        assert_eq!(
            shown(ViewKind::Instances, 60),
            [
                "SERVICE", "VERSION", "ADDRESS", "REG", "CLI", "REQ/S", "AVG"
            ]
        );
        assert_eq!(shown(ViewKind::Instances, 20), ["SERVICE", "ADDRESS"]);
        assert_eq!(shown(ViewKind::Instances, 0), [""; 0]);
    }

    #[test]
    fn the_column_of_the_order_never_leaves() {
        let mut table = Table::new(ViewKind::Instances);
        table.sort.column = Column::Last;
        let places = places(ViewKind::Instances, &table, 40);
        assert!(places.iter().any(|place| place.column == Column::Last));
    }
}
