//! Cursor, order and widths of one view.
//!
//! Invariants: the cursor is an identity with the screen row on which it stands; the index and the
//! offset are only what follows from it for the rows of the moment.

use tokio::time::Instant;

use super::ViewKind;
use super::row::RowKey;
use crate::tui::columns::Column;

/// By what rows are ordered; ties end on the uuid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// The column.
    pub column: Column,
    /// Greatest first.
    pub descending: bool,
}

/// Cursor, order and widths of one view.
#[derive(Debug, Clone)]
pub struct Table {
    /// By what rows are ordered.
    pub sort: Sort,
    /// The row under the cursor.
    pub cursor: Option<RowKey>,
    /// On which row of the table's body the cursor stands.
    pub anchor: usize,
    /// Whether the user has moved the cursor; until then the table shows its beginning.
    pub touched: bool,
    /// When the cursor last moved.
    pub moved: Option<Instant>,
    /// The row that a filter has hidden: the cursor returns to it.
    pub trace: Option<RowKey>,
    /// The cursor's index in the rows of the moment.
    pub selected: Option<usize>,
    /// The index of the first row on the screen.
    pub offset: usize,
    /// The widest cell of each column so far.
    pub widths: [u16; Column::ALL.len()],
}

impl Table {
    /// The table of a view that has not been shown yet.
    pub fn new(view: ViewKind) -> Self {
        Self {
            sort: Sort {
                column: Column::of(view)[0],
                descending: false,
            },
            cursor: None,
            anchor: 0,
            touched: false,
            moved: None,
            trace: None,
            selected: None,
            offset: 0,
            widths: [0; Column::ALL.len()],
        }
    }

    /// Lets columns shrink again.
    pub fn forget_widths(&mut self) {
        self.widths = [0; Column::ALL.len()];
    }
}
