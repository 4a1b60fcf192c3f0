//! One row of the table and its bars in the chart.

/// One row of the table, with its bars in the chart.
#[derive(Default)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) against: &'static str,
    pub(crate) target: String,
    pub(crate) figure: String,
    pub(crate) met: bool,
    /// The unit of the bars.
    pub(crate) unit: &'static str,
    pub(crate) bars: Vec<Bar>,
}

/// A bar of the chart.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) figure: f64,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Baseline,
    Peer,
}

impl Bar {
    pub(crate) fn ours(label: &str, figure: f64) -> Self {
        Self { label: label.to_owned(), figure, kind: Kind::Ours }
    }

    pub(crate) fn baseline(label: &str, figure: f64) -> Self {
        Self { label: label.to_owned(), figure, kind: Kind::Baseline }
    }

    pub(crate) fn peer(label: &str, figure: f64) -> Self {
        Self { label: label.to_owned(), figure, kind: Kind::Peer }
    }
}

impl Row {
    /// Returns the row as a line of Markdown.
    pub(crate) fn line(&self) -> String {
        let Self { name, what, against, target, figure, .. } = self;
        let verdict = if self.met { "met" } else { "**missed**" };
        format!("| {name} | {what} | {against} | {target} | {figure} | {verdict} |\n")
    }
}
