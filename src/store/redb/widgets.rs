//! The table of widgets, its index by order of creation, and the number of widgets in each range of the index. No other file writes to
//! them.
//!
//! Guarantees: the tables change in one transaction. There is one widget per name. Skipping widgets reads one row per 4,096 of them.

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};
use time::OffsetDateTime;

use crate::{
    model::{Deadline, InfoUrl, PublicId, User, Widget, WidgetName},
    store::{
        error::StoreError,
        redb::{
            handle::Snapshot,
            record::{self, WidgetRow},
            tables::{BytesTable, Users, WIDGET_COUNTS, WIDGETS, WIDGETS_1, WIDGETS_BY_SEQUENCE},
            users,
        },
    },
};

/// Names of the tables in errors.
const BY_SEQUENCE: &str = "widgets_by_sequence";
const COUNTS: &str = "widgets_counts";
/// The number of places in the order of creation that are counted in one row.
const RANGE_PLACES: u64 = 4096;

/// A widget with its owner.
pub struct OwnedWidget {
    /// The widget.
    pub widget: Widget,
    /// Its owner in the same snapshot, or `None` if the owner was removed.
    pub owner: Option<User>,
}

/// One page of widgets and their total number.
pub struct WidgetPage {
    /// In order of creation.
    pub items: Vec<OwnedWidget>,
    /// The total number of widgets in the same snapshot.
    pub total: u64,
}

pub(in crate::store) fn insert(txn: &WriteTransaction, widget: &Widget) -> Result<bool, StoreError> {
    let mut widgets = txn.open_table(WIDGETS)?;
    if widgets.get(widget.name.as_str().as_bytes())?.is_some() {
        return Ok(false);
    }
    let mut by_sequence = txn.open_table(WIDGETS_BY_SEQUENCE)?;
    let last = by_sequence.last()?.map(|(last, _)| record::number(BY_SEQUENCE, last.value())).transpose()?;
    let sequence = last.map_or(0, |last| last + 1);
    by_sequence.insert(sequence.to_be_bytes().as_slice(), widget.name.as_str().as_bytes())?;
    let mut counts = txn.open_table(WIDGET_COUNTS)?;
    let count = count(&counts, sequence)?;
    set_count(&mut counts, sequence / RANGE_PLACES, count + 1)?;
    widgets.insert(widget.name.as_str().as_bytes(), record::encode(&to_row(sequence, widget)).as_slice())?;
    Ok(true)
}

pub(in crate::store) fn put(txn: &WriteTransaction, widget: &Widget) -> Result<bool, StoreError> {
    if insert(txn, widget)? {
        return Ok(true);
    }
    let mut widgets = txn.open_table(WIDGETS)?;
    let row: Option<WidgetRow> =
        widgets.get(widget.name.as_str().as_bytes())?.map(|row| record::decode("widgets", row.value())).transpose()?;
    if let Some(row) = row {
        let row = WidgetRow {
            info_url: widget.info_url.as_str().to_owned(),
            deadline_s: widget.deadline.moment().unix_timestamp(),
            ..row
        };
        widgets.insert(widget.name.as_str().as_bytes(), record::encode(&row).as_slice())?;
    }
    Ok(false)
}

pub(in crate::store) fn remove(txn: &WriteTransaction, name: &WidgetName) -> Result<bool, StoreError> {
    let row: Option<WidgetRow> = txn
        .open_table(WIDGETS)?
        .remove(name.as_str().as_bytes())?
        .map(|row| record::decode("widgets", row.value()))
        .transpose()?;
    if let Some(row) = &row {
        txn.open_table(WIDGETS_BY_SEQUENCE)?.remove(row.sequence.to_be_bytes().as_slice())?;
        let mut counts = txn.open_table(WIDGET_COUNTS)?;
        let range = row.sequence / RANGE_PLACES;
        let count = count(&counts, row.sequence)?;
        if count > 1 {
            set_count(&mut counts, range, count - 1)?;
        } else {
            counts.remove(range.to_be_bytes().as_slice())?;
        }
    }
    Ok(row.is_some())
}

pub(in crate::store) fn find(snapshot: &Snapshot, name: &WidgetName) -> Result<Option<OwnedWidget>, StoreError> {
    let row = snapshot.open_table(WIDGETS)?.get(name.as_str().as_bytes())?;
    row.map(|row| from_row(&snapshot.users, name.clone(), row.value())).transpose()
}

pub(in crate::store) fn page(snapshot: &Snapshot, skip: u64, limit: usize) -> Result<WidgetPage, StoreError> {
    let by_sequence = snapshot.open_table(WIDGETS_BY_SEQUENCE)?;
    let total = by_sequence.len()?;
    let mut items = Vec::new();
    if skip < total {
        let (first, skip) = start(snapshot, skip)?;
        for entry in by_sequence.range(first.to_be_bytes().as_slice()..)?.skip(skip).take(limit) {
            let (_, name) = entry?;
            let damaged = || StoreError::Record { table: BY_SEQUENCE, cause: "no such widget".to_owned() };
            let name = WidgetName::parse(record::text(BY_SEQUENCE, name.value())?).map_err(|_| damaged())?;
            items.push(find(snapshot, &name)?.ok_or_else(damaged)?);
        }
    }
    Ok(WidgetPage { items, total })
}

/// Returns the place from which less than [`RANGE_PLACES`] widgets must be skipped one by one to skip `skip` widgets, and how many those
/// are.
fn start(txn: &ReadTransaction, mut skip: u64) -> Result<(u64, usize), StoreError> {
    let mut first = 0;
    for row in txn.open_table(WIDGET_COUNTS)?.iter()? {
        let (range, count) = row?;
        first = record::number(COUNTS, range.value())? * RANGE_PLACES;
        let count = record::number(COUNTS, count.value())?;
        if skip < count {
            break;
        }
        skip -= count;
        first += RANGE_PLACES;
    }
    Ok((first, usize::try_from(skip).unwrap_or(usize::MAX)))
}

/// Counts the widgets of each range.
fn count_ranges(
    by_sequence: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<BTreeMap<u64, u64>, StoreError> {
    let mut counts = BTreeMap::new();
    for entry in by_sequence.iter()? {
        *counts.entry(record::number(BY_SEQUENCE, entry?.0.value())? / RANGE_PLACES).or_default() += 1;
    }
    Ok(counts)
}

/// Returns the number of widgets in the range of a place.
fn count(counts: &BytesTable<'_>, sequence: u64) -> Result<u64, StoreError> {
    let count = counts.get((sequence / RANGE_PLACES).to_be_bytes().as_slice())?;
    count.map_or(Ok(0), |count| record::number(COUNTS, count.value()))
}

fn set_count(counts: &mut BytesTable<'_>, range: u64, count: u64) -> Result<(), StoreError> {
    counts.insert(range.to_be_bytes().as_slice(), count.to_be_bytes().as_slice())?;
    Ok(())
}

/// Whether the number of widgets in each range is right.
pub(in crate::store) fn counts_are_right(txn: &ReadTransaction) -> Result<bool, StoreError> {
    let mut counts = BTreeMap::new();
    for row in txn.open_table(WIDGET_COUNTS)?.iter()? {
        let (range, count) = row?;
        counts.insert(record::number(COUNTS, range.value())?, record::number(COUNTS, count.value())?);
    }
    Ok(counts == count_ranges(&txn.open_table(WIDGETS_BY_SEQUENCE)?)?)
}

/// Migration to schema 6: copies the widgets, and creates both indexes.
pub(in crate::store) fn migrate_to_bytes_tables(txn: &WriteTransaction) -> Result<(), StoreError> {
    let (mut widgets, mut by_sequence) = (txn.open_table(WIDGETS)?, txn.open_table(WIDGETS_BY_SEQUENCE)?);
    for entry in txn.open_table(WIDGETS_1)?.iter()? {
        let (name, row) = entry?;
        let sequence = record::decode::<WidgetRow>("widgets", row.value())?.sequence;
        widgets.insert(name.value().as_bytes(), row.value())?;
        by_sequence.insert(sequence.to_be_bytes().as_slice(), name.value().as_bytes())?;
    }
    let mut counts = txn.open_table(WIDGET_COUNTS)?;
    for (range, count) in count_ranges(&by_sequence)? {
        set_count(&mut counts, range, count)?;
    }
    Ok(())
}

fn to_row(sequence: u64, widget: &Widget) -> WidgetRow {
    WidgetRow {
        sequence,
        info_url: widget.info_url.as_str().to_owned(),
        created_at_s: widget.created_at.unix_timestamp(),
        deadline_s: widget.deadline.moment().unix_timestamp(),
        owner: widget.owner.to_bytes(),
    }
}

pub(in crate::store) fn from_row(users: &Users, name: WidgetName, bytes: &[u8]) -> Result<OwnedWidget, StoreError> {
    let row: WidgetRow = record::decode("widgets", bytes)?;
    let damaged = |cause: String| StoreError::Record { table: "widgets", cause };
    let moment = |unix_s| OffsetDateTime::from_unix_timestamp(unix_s).map_err(|error| damaged(error.to_string()));
    let owner = PublicId::from_bytes(row.owner);
    let widget = Widget {
        name,
        info_url: InfoUrl::parse(&row.info_url).map_err(|error| damaged(error.to_string()))?,
        created_at: moment(row.created_at_s)?,
        deadline: Deadline::from_stored(moment(row.deadline_s)?),
        owner,
    };
    Ok(OwnedWidget { widget, owner: users::find(users, owner)? })
}
