//! The index of users by flags, and the number of users in each of its ranges.
//!
//! A user's flags, administrator and disabled, put the user into one of four groups. The index orders the users of a group by public id,
//! which is the order of registration. A second table divides each group into ranges of at most [`RANGE_USERS_MAX`] users and has the
//! number of users in each.
//!
//! Guarantees: the users after a given one are found without reading others, for every combination of flags. Counting, and skipping any
//! number of users, reads one row per some thousand users. Both tables change in the transaction that changes a user.

use std::{iter::Peekable, ops::Bound};

use redb::{Range, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata as _, Table, WriteTransaction};

use crate::{
    model::{PublicId, User, UserFilter},
    store::{
        error::StoreError,
        redb::{
            tables::{self, USER_COUNTS, USERS, USERS_BY_FLAGS},
            user_row,
        },
    },
};

/// The maximum number of users in a range that is counted in one row. Skipping users reads at most this many per group one by one.
const RANGE_USERS_MAX: u64 = 4096;

/// A row of the index: the group (1 byte) and the public id (16 bytes).
type Key = [u8; 17];

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

/// Both tables, open for writing.
pub(in crate::store) struct UserIndex<'a> {
    by_flags: Table<'a, Key, ()>,
    counts: Table<'a, Key, u64>,
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
        let admins = self.by_flags.range(Group::ACTING_ADMINS.first_key()..=Group::ACTING_ADMINS.last_key())?;
        Ok(admins.take(2).count() <= 1)
    }

    fn insert(&mut self, key: &Key) -> Result<(), StoreError> {
        let last = Group(key[0]).last_key();
        self.by_flags.insert(key, ())?;
        let (range, count) = self.range_of(key)?;
        if count < RANGE_USERS_MAX {
            self.counts.insert(range, count + 1)?;
        } else if self.by_flags.range((Bound::Excluded(*key), Bound::Included(last)))?.next().is_none() {
            self.counts.insert(key, 1)?; // new users come last: their ranges are full
        } else {
            let half = count.div_ceil(2);
            let nth = usize::try_from(half).expect("BUG: a range is small");
            let middle = self.by_flags.range(range..=last)?.nth(nth).transpose()?;
            let middle = middle.map(|entry| entry.0.value()).ok_or_else(|| damaged("a range has too few users"))?;
            self.counts.insert(range, half)?;
            self.counts.insert(middle, count + 1 - half)?;
        }
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> Result<(), StoreError> {
        self.by_flags.remove(key)?;
        let (range, count) = self.range_of(key)?;
        let left = count.checked_sub(1).ok_or_else(|| damaged("a range has fewer users than it counts"))?;
        if left == 0 {
            self.counts.remove(range)?;
        } else {
            self.counts.insert(range, left)?;
        }
        Ok(())
    }

    /// Returns the first key of the range that `key` is in, and the number of users in the range.
    fn range_of(&self, key: &Key) -> Result<(Key, u64), StoreError> {
        let first = Group(key[0]).first_key();
        let found = self.counts.range(first..=*key)?.next_back().transpose()?;
        Ok(found.map_or((first, 0), |(range, count)| (range.value(), count.value())))
    }
}

/// Migration: creates both tables from the table of users. They replace the index of administrators.
pub(in crate::store) fn create(txn: &WriteTransaction) -> Result<(), StoreError> {
    let mut index = UserIndex::open(txn)?;
    for entry in txn.open_table(USERS)?.iter()? {
        index.insert(&key_of(&user_row::read(entry)?))?;
    }
    txn.delete_table(tables::ADMINS)?;
    Ok(())
}

/// Compares the index with the table of users.
pub(in crate::store) struct Checker {
    by_flags: ReadOnlyTable<Key, ()>,
    counts: ReadOnlyTable<Key, u64>,
}

impl Checker {
    pub(in crate::store) fn open(txn: &ReadTransaction) -> Result<Self, StoreError> {
        Ok(Self { by_flags: txn.open_table(USERS_BY_FLAGS)?, counts: txn.open_table(USER_COUNTS)? })
    }

    /// Whether the user has an entry.
    pub(in crate::store) fn has(&self, user: &User) -> Result<bool, StoreError> {
        Ok(self.by_flags.get(key_of(user))?.is_some())
    }

    /// Returns the number of entries.
    pub(in crate::store) fn users(&self) -> Result<u64, StoreError> {
        Ok(self.by_flags.len()?)
    }

    /// Whether each range has the number of users that is stored for it, and each user is in a range.
    pub(in crate::store) fn counts_are_right(&self) -> Result<bool, StoreError> {
        let mut entries = self.by_flags.iter()?.map(|entry| entry.map(|(key, _)| key.value())).peekable();
        let mut ranges =
            self.counts.iter()?.map(|row| row.map(|(first, count)| (first.value(), count.value()))).peekable();
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
        for range in counts.range(group.first_key()..=group.last_key())? {
            total += range?.1.value();
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
    let range = |(group, start): (&Group, Bound<Key>)| {
        Ok(by_flags.range((start, Bound::Included(group.last_key())))?.peekable())
    };
    let ranges = groups.iter().zip(starts).map(range).collect::<Result<_, StoreError>>()?;
    Ok(Merged { ranges }.skip(usize::try_from(skip).unwrap_or(usize::MAX)))
}

/// Returns the key in each group from which at most some thousand users must be skipped one by one, in all groups together, to skip `skip`
/// users, and how many those are.
fn starts(txn: &ReadTransaction, groups: &[Group], skip: u64) -> Result<(Vec<Bound<Key>>, u64), StoreError> {
    let counts = txn.open_table(USER_COUNTS)?;
    let mut ranges = Vec::new();
    for group in groups {
        let rows = counts.range(group.first_key()..=group.last_key())?;
        ranges.push(rows.map(|row| row.map(|(first, count)| (first.value(), count.value()))).peekable());
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
    ranges: Vec<Peekable<Range<'static, Key, ()>>>,
}

impl Iterator for Merged {
    type Item = Result<PublicId, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = first_by_id(&mut self.ranges, |(key, _)| key.value())?;
        let entry = self.ranges[first].next()?;
        Some(entry.map(|(key, _)| PublicId::from_bytes(id_of(&key.value()))).map_err(Into::into))
    }
}

fn damaged(cause: &str) -> StoreError {
    StoreError::Record { table: "users_by_flags_counts", cause: cause.to_owned() }
}
