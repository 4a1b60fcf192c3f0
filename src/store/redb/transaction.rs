//! One durable write transaction, and which users and tokens it changed.
//!
//! Guarantees: what was noted as revoked is in the revocation feed in the same transaction (I5).

use std::{cell::RefCell, ops::Deref};

use redb::{Database, WriteTransaction};

use crate::{
    model::{BlacklistedToken, PublicId, UserRevocation},
    store::{error::StoreError, redb::revocations},
};

/// An open write transaction.
pub(in crate::store) struct Transaction {
    txn: WriteTransaction,
    changes: RefCell<Changes>,
}

/// What a transaction changed of what every request reads.
#[derive(Default)]
pub(in crate::store) struct Changes {
    /// Users that existed before and were changed or removed.
    pub(in crate::store) users: Vec<PublicId>,
    /// Tokens that were put on the blacklist.
    pub(in crate::store) tokens: Vec<BlacklistedToken>,
    /// Whether a service was added, changed or removed.
    pub(in crate::store) services: bool,
    /// What the revocation feed says about users.
    pub(in crate::store) revoked_users: Vec<UserRevocation>,
}

impl Changes {
    /// Whether the revocation feed has a row about the transaction.
    pub(in crate::store) fn are_revocations(&self) -> bool {
        !self.tokens.is_empty() || !self.revoked_users.is_empty()
    }
}

impl Transaction {
    /// Notes that an existing user was changed or removed. Whoever writes to the table of users calls this.
    pub(in crate::store) fn user_changed(&self, user: PublicId) {
        self.changes.borrow_mut().users.push(user);
    }

    /// Notes that a token was put on the blacklist. Whoever adds to the blacklist calls this.
    pub(in crate::store) fn token_blacklisted(&self, token: BlacklistedToken) {
        self.changes.borrow_mut().tokens.push(token);
    }

    /// Notes that tokens of a user became invalid, or that the user became an administrator or ceased to be one.
    pub(in crate::store) fn user_revoked(&self, revocation: UserRevocation) {
        self.changes.borrow_mut().revoked_users.push(revocation);
    }

    /// Notes that a service was added, changed or removed. Whoever writes to the table of services calls this.
    pub(in crate::store) fn services_changed(&self) {
        self.changes.borrow_mut().services = true;
    }
}

impl Deref for Transaction {
    type Target = WriteTransaction;

    fn deref(&self) -> &WriteTransaction {
        &self.txn
    }
}

/// Runs `work` in a transaction, commits it, and returns what it changed. The commit is durable when this returns `Ok`; if `work` returns
/// an error, the transaction is rolled back.
pub(in crate::store) fn transact(
    database: &Database,
    work: impl FnOnce(&Transaction) -> Result<(), StoreError>,
) -> Result<Changes, StoreError> {
    let mut txn = database.begin_write()?;
    txn.set_durability(redb::Durability::Immediate)?;
    // Commits are two-phase, and reopening after a crash need not scan the file.
    txn.set_quick_repair(true);
    let txn = Transaction { txn, changes: RefCell::default() };
    work(&txn)?;
    let Transaction { txn, changes } = txn;
    let changes = changes.into_inner();
    if changes.are_revocations() {
        revocations::append(&txn, &changes.tokens, &changes.revoked_users)?;
    }
    txn.commit()?;
    Ok(changes)
}
