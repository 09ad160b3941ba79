//! Where everything stands: pure, and asked before anything is drawn, so that paging and drawing
//! agree.
//!
//! Invariants: every rectangle lies within the screen, whatever its size; parts that do not fit are
//! empty, and what remains is the table.

use ratatui::layout::Rect;

use super::columns::{Place, places};
use super::state::State;

/// Below this many columns or rows there is only one line.
const LEAST: (u16, u16) = (24, 8);

/// Below this many columns a row is two joined cells.
const NARROW: u16 = 60;

/// The lines of the pane of details, without its rule.
const DETAIL_LINES: u16 = 5;

/// How the table's rows are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One line that says what is needed.
    Tiny,
    /// Two joined cells and the column of the order.
    Narrow,
    /// Columns.
    Wide,
}

/// Where everything stands; what is not shown has no height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regions {
    /// How rows are drawn.
    pub shape: Shape,
    /// Name, link and totals.
    pub status: Rect,
    /// The views.
    pub tabs: Rect,
    /// Breadcrumb and order.
    pub crumbs: Rect,
    /// The filter.
    pub filter: Rect,
    /// A line, or what is wrong with the filter.
    pub rule: Rect,
    /// The titles of the columns.
    pub header: Rect,
    /// The rows.
    pub body: Rect,
    /// The line over the details.
    pub detail_rule: Rect,
    /// The details.
    pub detail: Rect,
    /// The counters of the demo's traffic.
    pub traffic: Rect,
    /// What vanished at once and is kept, if anything is.
    pub alarm: Rect,
    /// The keys.
    pub hints: Rect,
    /// The columns that fit.
    pub columns: Vec<Place>,
}

/// Where everything stands on a screen of the state's size.
pub fn layout(state: &State) -> Regions {
    let (width, height) = state.size;
    let shape = if width < LEAST.0 || height < LEAST.1 {
        Shape::Tiny
    } else if width < NARROW {
        Shape::Narrow
    } else {
        Shape::Wide
    };
    if shape == Shape::Tiny {
        return tiny(width, height);
    }
    let wide = shape == Shape::Wide;
    let roomy = wide && height >= 16;
    let mut top = Slices::new(width, height);
    let status = top.take(1);
    let tabs = top.take_if(roomy && width >= 76 && height >= 20, 1);
    let crumbs = top.take_if(roomy, 1);
    let filter = top.take(1);
    let rule = top.take_if(wide, 1);
    let header = top.take_if(wide, 1);
    let hints = top.take_last(1);
    let alarm = top.take_last_if(!state.snapshot.alarms().is_empty(), 1);
    let traffic = top.take_last_if(state.traffic.is_some() && roomy, 1);
    let preview = state.preview && roomy;
    let lines = if height >= 30 { DETAIL_LINES } else { 1 };
    let detail = top.take_last_if(preview, lines);
    let detail_rule = top.take_last_if(preview, 1);
    let body = top.rest();
    let columns = if wide {
        places(state.view, state.table(), width)
    } else {
        Vec::new()
    };
    Regions {
        shape,
        status,
        tabs,
        crumbs,
        filter,
        rule,
        header,
        body,
        detail_rule,
        detail,
        traffic,
        alarm,
        hints,
        columns,
    }
}

fn tiny(width: u16, height: u16) -> Regions {
    let nothing = Rect::new(0, 0, 0, 0);
    Regions {
        shape: Shape::Tiny,
        status: Rect::new(0, 0, width, height.min(1)),
        tabs: nothing,
        crumbs: nothing,
        filter: nothing,
        rule: nothing,
        header: nothing,
        body: nothing,
        detail_rule: nothing,
        detail: nothing,
        traffic: nothing,
        alarm: nothing,
        hints: nothing,
        columns: Vec::new(),
    }
}

/// A rectangle in the middle of `area`, as large as asked or as fits.
pub fn centered(area: Rect, width: u16, height: u16) -> Rect {
    let width = width.min(area.width);
    let height = height.min(area.height);
    Rect::new(
        area.x + (area.width - width) / 2,
        area.y + (area.height - height) / 2,
        width,
        height,
    )
}

/// Rows of the screen, taken from the top and from the bottom.
struct Slices {
    width: u16,
    top: u16,
    bottom: u16,
}

impl Slices {
    fn new(width: u16, height: u16) -> Self {
        Self {
            width,
            top: 0,
            bottom: height,
        }
    }

    fn take(&mut self, rows: u16) -> Rect {
        let rows = rows.min(self.bottom - self.top);
        let slice = Rect::new(0, self.top, self.width, rows);
        self.top += rows;
        slice
    }

    fn take_if(&mut self, shown: bool, rows: u16) -> Rect {
        self.take(if shown { rows } else { 0 })
    }

    fn take_last(&mut self, rows: u16) -> Rect {
        let rows = rows.min(self.bottom - self.top);
        self.bottom -= rows;
        Rect::new(0, self.bottom, self.width, rows)
    }

    fn take_last_if(&mut self, shown: bool, rows: u16) -> Rect {
        self.take_last(if shown { rows } else { 0 })
    }

    fn rest(&mut self) -> Rect {
        self.take(self.bottom - self.top)
    }
}
