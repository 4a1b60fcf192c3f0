//! Tables that fit the terminal.
//!
//! Guarantees: in a pipe every cell is whole, in one line per record. A line is no wider than the terminal, as far as columns can be left
//! out and cells shortened in the middle to [`CELL_MIN`] characters. On a terminal of less than [`BLOCKS_BELOW`] characters each record is
//! a block of lines with whole cells. Deliberately absent: characters that are wider than others.

use std::io;

use terminal_size::{Width, terminal_size_of};

/// Terminals with fewer characters in a line show each record as a block of lines.
const BLOCKS_BELOW: usize = 60;
/// The gap between two columns.
const GAP: usize = 2;
/// No cell is shortened to less than this.
const CELL_MIN: usize = 8;

/// A column of a table.
pub(super) struct Column {
    pub(super) head: &'static str,
    pub(super) fit: Fit,
}

/// How a column contributes to fitting a terminal that is too narrow for the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It stays as it is.
    Whole,
    /// It is left out.
    LeaveOut,
    /// Its cells are shortened.
    Shorten,
}

/// The layout of a table.
pub(super) struct Table {
    columns: &'static [Column],
    layout: Layout,
}

enum Layout {
    /// A line for each record. Each column that is shown has its width and the maximum length of a cell.
    Lines(Vec<Option<(usize, usize)>>),
    Blocks,
}

/// Returns the width of the terminal that is stdout, in characters, or `None` if stdout is not a terminal.
pub(super) fn terminal_width() -> Option<usize> {
    terminal_size_of(io::stdout()).map(|(Width(width), _)| usize::from(width)).filter(|width| *width > 0)
}

impl Table {
    /// Lays out a table whose cells have at most `widths` characters, for a terminal of `terminal` characters, or for a pipe.
    pub(super) fn new(columns: &'static [Column], widths: &[usize], terminal: Option<usize>) -> Self {
        let mut widths: Vec<Option<usize>> =
            columns.iter().zip(widths).map(|(column, width)| Some(column.head.chars().count().max(*width))).collect();
        let total = |widths: &[Option<usize>]| {
            widths.iter().flatten().map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
        };
        let terminal = terminal.unwrap_or(usize::MAX);
        if total(&widths) > terminal && terminal < BLOCKS_BELOW {
            return Self { columns, layout: Layout::Blocks };
        }
        for (index, column) in columns.iter().enumerate().rev() {
            if column.fit == Fit::LeaveOut && total(&widths) > terminal {
                widths[index] = None;
            }
        }
        let excess = total(&widths).saturating_sub(terminal);
        let room = terminal.saturating_sub(total(&widths));
        let shown = columns.iter().zip(widths).map(|(column, width)| {
            let width = width?;
            Some(match column.fit {
                Fit::Shorten => {
                    let width = width.saturating_sub(excess).max(CELL_MIN);
                    (width, width.saturating_add(room))
                }
                Fit::Whole | Fit::LeaveOut => (width, usize::MAX),
            })
        });
        Self { columns, layout: Layout::Lines(shown.collect()) }
    }

    /// Returns the line of heads, or nothing where records are blocks.
    pub(super) fn head(&self) -> String {
        match self.layout {
            Layout::Lines(_) => self.lines_of(&self.columns.iter().map(|column| column.head).collect::<Vec<_>>()),
            Layout::Blocks => String::new(),
        }
    }

    /// Returns the lines of a record, which has one cell for each column.
    pub(super) fn lines_of(&self, cells: &[&str]) -> String {
        match &self.layout {
            Layout::Lines(shown) => {
                let cells = cells.iter().zip(shown).filter_map(|(cell, shown)| {
                    let (width, max) = (*shown)?;
                    Some(format!("{:width$}", shortened(cell, max)))
                });
                let line = cells.collect::<Vec<_>>().join(&" ".repeat(GAP));
                format!("{}\n", line.trim_end())
            }
            Layout::Blocks => {
                let names = self.columns.iter().map(|column| column.head.to_lowercase());
                let width = self.columns.iter().map(|column| column.head.chars().count()).max().unwrap_or(0);
                let mut lines = cells.iter().zip(names).map(|(cell, name)| format!("  {name:width$}  {cell}\n"));
                let _ = lines.next(); // the first cell is the heading of the block
                format!("{}\n{}", cells[0], lines.collect::<String>())
            }
        }
    }
}

/// Returns `text` with its middle left out if it has more than `max` characters.
fn shortened(text: &str, max: usize) -> String {
    let length = text.chars().count();
    if length <= max {
        return text.to_owned();
    }
    let kept = max.saturating_sub(1);
    let start: String = text.chars().take(kept.div_ceil(2)).collect();
    let end: String = text.chars().skip(length - kept / 2).collect();
    format!("{start}…{end}")
}
