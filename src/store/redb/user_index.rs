//! The index of users by flags, and the number of users in each of its ranges.
//!
//! A user's flags, administrator and disabled, put the user into one of four groups. The index orders the users of a group by public id,
//! which is the order of registration. A second table divides each group into ranges of at most [`RANGE_USERS_MAX`] users and has the
//! number of users in each.
//!
//! Guarantees: the users after a given one are found without reading others, for every combination of flags. Counting, and skipping any
//! number of users, reads one row per some thousand users. Both tables change in the transaction that changes a user.

use std::{
    iter::{Map, Peekable},
    ops::Bound,
};

use redb::{
    AccessGuard, Range, ReadTransaction, ReadableTable, ReadableTableMetadata as _, StorageError, WriteTransaction,
};

use crate::{
    model::{PublicId, User, UserFilter},
    store::{
        error::StoreError,
        redb::{
            record,
            tables::{BytesTable, ReadOnlyBytesTable, USER_COUNTS, USERS_BY_FLAGS},
        },
    },
};

/// The maximum number of users in a range that is counted in one row. Skipping users reads at most this many per group one by one.
const RANGE_USERS_MAX: u64 = 4096;

/// Names of the tables in errors.
const BY_FLAGS: &str = "users_by_flags";
const COUNTS: &str = "users_by_flags_counts";

/// A row of the index: the group (1 byte) and the public id (16 bytes).
type Key = [u8; 17];
/// A row of either table as redb's iterators return it.
type Entry<'a> = Result<(AccessGuard<'a, &'static [u8]>, AccessGuard<'a, &'static [u8]>), StorageError>;
/// The rows of one group.
type Entries<'a> = Range<'a, &'static [u8], &'static [u8]>;
/// The keys of one group.
type Keys = Map<Entries<'static>, fn(Entry<'static>) -> Result<Key, StoreError>>;

/// All users with the same flags.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Group(u8);

impl Group {
    const ADMIN: u8 = 1;
    const DISABLED: u8 = 2;
    /// The enabled administrators.
    const ACTING_ADMINS: Self = Self(Self::ADMIN);

    fn of(user: &User) -> Self {
        Self(u8::from(user.admin) * Self::ADMIN + u8::from(user.disabled) * Self::DISABLED)
    }

    /// Returns the groups of the users with the flags of `filter`.
    fn selected_by(filter: &UserFilter) -> Vec<Self> {
        let fits = |group: &Self| {
            filter.admin.is_none_or(|admin| admin == (group.0 & Self::ADMIN != 0))
                && filter.disabled.is_none_or(|disabled| disabled == (group.0 & Self::DISABLED != 0))
        };
        (0..4).map(Self).filter(fits).collect()
    }

    fn key(self, id: [u8; 16]) -> Key {
        let mut key = [self.0; 17];
        key[1..].copy_from_slice(&id);
        key
    }

    /// The first key that a user of the group can have. The first range of each group begins here.
    fn first_key(self) -> Key {
        self.key([0; 16])
    }

    fn last_key(self) -> Key {
        self.key([0xff; 16])
    }
}

fn key_of(user: &User) -> Key {
    Group::of(user).key(user.public_id.to_bytes())
}

fn id_of(key: &Key) -> [u8; 16] {
    let (_, id) = key.split_first_chunk::<1>().expect("BUG: the key is longer than its group");
    id.try_into().expect("BUG: the rest of the key is the id")
}

fn key_row(row: Entry<'_>) -> Result<Key, StoreError> {
    record::fixed(BY_FLAGS, row?.0.value())
}

/// Returns the first key of a range and the number of users in it.
fn count_row(row: Entry<'_>) -> Result<(Key, u64), StoreError> {
    let (first, count) = row?;
    Ok((record::fixed(COUNTS, first.value())?, record::number(COUNTS, count.value())?))
}

/// Returns the rows of `group` from `first`, inclusively.
fn range<'a>(
    table: &'a impl ReadableTable<&'static [u8], &'static [u8]>,
    first: &Key,
    group: Group,
) -> Result<Entries<'a>, StoreError> {
    Ok(table.range(first.as_slice()..=group.last_key().as_slice())?)
}

/// Returns the rows of `group` behind `key`.
fn range_after<'a>(
    table: &'a impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &Key,
    group: Group,
) -> Result<Entries<'a>, StoreError> {
    let bounds = (Bound::Excluded(key.as_slice()), Bound::Included(&group.last_key()[..]));
    Ok(table.range::<&[u8]>(bounds)?)
}

/// Both tables, open for writing.
pub(in crate::store) struct UserIndex<'a> {
    by_flags: BytesTable<'a>,
    counts: BytesTable<'a>,
}

impl<'a> UserIndex<'a> {
    pub(in crate::store) fn open(txn: &'a WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self { by_flags: txn.open_table(USERS_BY_FLAGS)?, counts: txn.open_table(USER_COUNTS)? })
    }

    /// Replaces the entry of a user. `None` is no user.
    pub(in crate::store) fn replace(&mut self, before: Option<&User>, after: Option<&User>) -> Result<(), StoreError> {
        let (before, after) = (before.map(key_of), after.map(key_of));
        if before == after {
            return Ok(());
        }
        if let Some(before) = before {
            self.remove(&before)?;
        }
        after.map_or(Ok(()), |after| self.insert(&after))
    }

    /// Whether there is at most one enabled administrator.
    pub(in crate::store) fn is_last_admin(&self) -> Result<bool, StoreError> {
        let admins = range(&self.by_flags, &Group::ACTING_ADMINS.first_key(), Group::ACTING_ADMINS)?;
        Ok(admins.take(2).count() <= 1)
    }

    fn insert(&mut self, key: &Key) -> Result<(), StoreError> {
        let group = Group(key[0]);
        self.by_flags.insert(key.as_slice(), [].as_slice())?;
        let (first, count) = self.range_of(key)?;
        if count < RANGE_USERS_MAX {
            self.set_count(&first, count + 1)
        } else if range_after(&self.by_flags, key, group)?.next().is_none() {
            self.set_count(key, 1) // new users come last: their ranges are full
        } else {
            let half = count.div_ceil(2);
            let nth = usize::try_from(half).expect("BUG: a range is small");
            let middle = range(&self.by_flags, &first, group)?.nth(nth).map(key_row);
            let middle = middle.ok_or_else(|| damaged("a range has too few users"))??;
            self.set_count(&first, half)?;
            self.set_count(&middle, count + 1 - half)
        }
    }

    fn set_count(&mut self, first: &Key, count: u64) -> Result<(), StoreError> {
        self.counts.insert(first.as_slice(), count.to_be_bytes().as_slice())?;
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> Result<(), StoreError> {
        self.by_flags.remove(key.as_slice())?;
        let (first, count) = self.range_of(key)?;
        let left = count.checked_sub(1).ok_or_else(|| damaged("a range has fewer users than it counts"))?;
        if left > 0 {
            return self.set_count(&first, left);
        }
        self.counts.remove(first.as_slice())?;
        Ok(())
    }

    /// Returns the first key of the range that `key` is in, and the number of users in the range.
    fn range_of(&self, key: &Key) -> Result<(Key, u64), StoreError> {
        let first = Group(key[0]).first_key();
        let found = self.counts.range(first.as_slice()..=key.as_slice())?.next_back();
        found.map_or(Ok((first, 0)), count_row)
    }
}

/// Compares the index with the table of users.
pub(in crate::store) struct Checker {
    by_flags: ReadOnlyBytesTable,
    counts: ReadOnlyBytesTable,
}

impl Checker {
    pub(in crate::store) fn open(txn: &ReadTransaction) -> Result<Self, StoreError> {
        Ok(Self { by_flags: txn.open_table(USERS_BY_FLAGS)?, counts: txn.open_table(USER_COUNTS)? })
    }

    /// Whether the user has an entry.
    pub(in crate::store) fn has(&self, user: &User) -> Result<bool, StoreError> {
        Ok(self.by_flags.get(key_of(user).as_slice())?.is_some())
    }

    /// Returns the number of entries.
    pub(in crate::store) fn users(&self) -> Result<u64, StoreError> {
        Ok(self.by_flags.len()?)
    }

    /// Whether each range has the number of users that is stored for it, and each user is in a range.
    pub(in crate::store) fn counts_are_right(&self) -> Result<bool, StoreError> {
        let mut entries = self.by_flags.iter()?.map(key_row).peekable();
        let mut ranges = self.counts.iter()?.map(count_row).peekable();
        while let Some((first, count)) = ranges.next().transpose()? {
            let end = match ranges.peek() {
                Some(Ok((next, _))) if next[0] == first[0] => *next,
                _ => Group(first[0] + 1).first_key(),
            };
            let mut found = 0;
            while let Some(key) = entries.next_if(|key| key.as_ref().is_ok_and(|key| *key < end)) {
                found += u64::from(key? >= first);
            }
            if found != count {
                return Ok(false);
            }
        }
        Ok(entries.next().is_none())
    }
}

/// The start of a list of users in order of registration.
#[derive(Clone, Copy)]
pub(in crate::store) enum Start {
    /// After this number of users.
    Skip(u64),
    /// After the user with this public id, who need not exist.
    After(PublicId),
}

/// Counts the users with the flags of `filter`.
pub(in crate::store) fn count(txn: &ReadTransaction, filter: &UserFilter) -> Result<u64, StoreError> {
    let counts = txn.open_table(USER_COUNTS)?;
    let mut total = 0;
    for group in Group::selected_by(filter) {
        for row in range(&counts, &group.first_key(), group)? {
            total += count_row(row)?.1;
        }
    }
    Ok(total)
}

/// Returns the public ids of the users with the flags of `filter`, in order of registration.
pub(in crate::store) fn ids(
    txn: &ReadTransaction,
    filter: &UserFilter,
    start: Start,
) -> Result<impl Iterator<Item = Result<PublicId, StoreError>>, StoreError> {
    let by_flags = txn.open_table(USERS_BY_FLAGS)?;
    let groups = Group::selected_by(filter);
    let (starts, skip) = match start {
        Start::Skip(skip) => starts(txn, &groups, skip)?,
        Start::After(id) => (groups.iter().map(|group| Bound::Excluded(group.key(id.to_bytes()))).collect(), 0),
    };
    let mut ranges = Vec::new();
    for (group, start) in groups.iter().zip(starts) {
        let bounds = (start.as_ref().map(Key::as_slice), Bound::Included(&group.last_key()[..]));
        ranges.push(by_flags.range::<&[u8]>(bounds)?.map(key_row as fn(_) -> _).peekable());
    }
    Ok(Merged { ranges }.skip(usize::try_from(skip).unwrap_or(usize::MAX)))
}

/// Returns the key in each group from which at most some thousand users must be skipped one by one, in all groups together, to skip `skip`
/// users, and how many those are.
fn starts(txn: &ReadTransaction, groups: &[Group], skip: u64) -> Result<(Vec<Bound<Key>>, u64), StoreError> {
    let counts = txn.open_table(USER_COUNTS)?;
    let mut ranges = Vec::new();
    for group in groups {
        ranges.push(range(&counts, &group.first_key(), *group)?.map(count_row).peekable());
    }
    let mut current: Vec<(Key, u64)> = groups.iter().map(|group| (group.first_key(), 0)).collect();
    let mut skipped = 0;
    // A range may be skipped as a whole if it is complete before the wanted place, also if all users in the current ranges of the other
    // groups come before it.
    while skipped + current.iter().map(|(_, count)| count).sum::<u64>() <= skip {
        let Some(next) = first_by_id(&mut ranges, |(key, _)| *key) else { break };
        if let Some(range) = ranges[next].next().transpose()? {
            skipped += std::mem::replace(&mut current[next], range).1;
        }
    }
    Ok((current.into_iter().map(|(first, _)| Bound::Included(first)).collect(), skip - skipped))
}

/// Returns the number of the iterator whose next key has the smallest public id, or that has an error.
fn first_by_id<T, E>(
    iterators: &mut [Peekable<impl Iterator<Item = Result<T, E>>>],
    key: impl Fn(&T) -> Key,
) -> Option<usize> {
    let mut first: Option<(Option<[u8; 16]>, usize)> = None;
    for (number, iterator) in iterators.iter_mut().enumerate() {
        if let Some(head) = iterator.peek() {
            let head = (head.as_ref().ok().map(|head| id_of(&key(head))), number);
            first = Some(first.map_or(head, |first| first.min(head)));
        }
    }
    first.map(|(_, number)| number)
}

/// The ranges of several groups, merged into one order of registration.
struct Merged {
    ranges: Vec<Peekable<Keys>>,
}

impl Iterator for Merged {
    type Item = Result<PublicId, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = first_by_id(&mut self.ranges, |key| *key)?;
        let key = self.ranges[first].next()?;
        Some(key.map(|key| PublicId::from_bytes(id_of(&key))))
    }
}

fn damaged(cause: &str) -> StoreError {
    StoreError::Record { table: COUNTS, cause: cause.to_owned() }
}
