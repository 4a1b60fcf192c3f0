//! The table of services. No other file writes to it.
//!
//! Guarantees: no two services have the same name, in any letter case, and there are at most [`SERVICES_MAX`]; both are decided in the
//! transaction that adds a service.

use redb::{ReadTransaction, ReadableTable};
use time::OffsetDateTime;

use crate::{
    model::{ReplacedSecret, SecretHash, Service, ServiceChange, ServiceId, ServiceName},
    store::{
        error::StoreError,
        redb::{
            record::{self, ServiceRow},
            tables::SERVICES,
            transaction::Transaction,
        },
    },
};

/// The name of the table in errors.
const NAME: &str = "services";
/// The maximum number of services. All of them are kept in memory.
pub const SERVICES_MAX: usize = 1_000;

/// Outcome of adding a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertServiceOutcome {
    /// The service was added.
    Done,
    /// Another service has the name, perhaps in another letter case.
    NameTaken,
    /// There are [`SERVICES_MAX`] services already.
    TooMany,
}

/// Returns all services in the order of creation.
pub(in crate::store) fn all(txn: &ReadTransaction) -> Result<Vec<Service>, StoreError> {
    read_all(&txn.open_table(SERVICES)?)
}

pub(in crate::store) fn insert(txn: &Transaction, service: &Service) -> Result<InsertServiceOutcome, StoreError> {
    let services = read_all(&txn.open_table(SERVICES)?)?;
    if services.iter().any(|other| other.name.key() == service.name.key()) {
        return Ok(InsertServiceOutcome::NameTaken);
    }
    if services.len() >= SERVICES_MAX {
        return Ok(InsertServiceOutcome::TooMany);
    }
    write(txn, service)?;
    Ok(InsertServiceOutcome::Done)
}

/// Changes a service and returns it after the change, or `None` if there is none of this id.
pub(in crate::store) fn update(
    txn: &Transaction,
    id: ServiceId,
    change: &ServiceChange,
) -> Result<Option<Service>, StoreError> {
    let before = {
        let services = txn.open_table(SERVICES)?;
        let row = services.get(id.to_bytes().as_slice())?;
        row.map(|row| from_row(id, row.value())).transpose()?
    };
    let Some(after) = before.map(|before| before.changed(change)) else { return Ok(None) };
    write(txn, &after)?;
    Ok(Some(after))
}

/// Removes a service and returns it, or `None` if there is none of this id.
pub(in crate::store) fn remove(txn: &Transaction, id: ServiceId) -> Result<Option<Service>, StoreError> {
    txn.services_changed();
    let mut services = txn.open_table(SERVICES)?;
    let row = services.remove(id.to_bytes().as_slice())?;
    row.map(|row| from_row(id, row.value())).transpose()
}

/// Whether every row is one that this program writes, and no two services have the same name.
pub(in crate::store) fn are_sound(txn: &ReadTransaction) -> Result<bool, StoreError> {
    let services = all(txn)?;
    let mut names: Vec<String> = services.iter().map(|service| service.name.key()).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names.len() == services.len() && services.len() <= SERVICES_MAX)
}

fn write(txn: &Transaction, service: &Service) -> Result<(), StoreError> {
    txn.services_changed();
    let row = record::encode(&to_row(service));
    txn.open_table(SERVICES)?.insert(service.id.to_bytes().as_slice(), row.as_slice())?;
    Ok(())
}

fn read_all(services: &impl ReadableTable<&'static [u8], &'static [u8]>) -> Result<Vec<Service>, StoreError> {
    let rows = services.iter()?.map(|row| {
        let (id, row) = row?;
        from_row(ServiceId::from_bytes(record::fixed(NAME, id.value())?), row.value())
    });
    rows.collect()
}

fn to_row(service: &Service) -> ServiceRow {
    ServiceRow {
        name: service.name.as_str().to_owned(),
        secret_hash: service.secret.0,
        replaced_secret: service
            .replaced_secret
            .map(|replaced| (replaced.hash.0, replaced.valid_until().unix_timestamp())),
        disabled: service.disabled,
        created_at_s: service.created_at.unix_timestamp(),
        rotated_at_s: service.rotated_at.unix_timestamp(),
    }
}

fn from_row(id: ServiceId, bytes: &[u8]) -> Result<Service, StoreError> {
    let damaged = |cause: String| StoreError::Record { table: NAME, cause };
    let row: ServiceRow = record::decode(NAME, bytes)?;
    let moment = |s| OffsetDateTime::from_unix_timestamp(s).map_err(|error| damaged(error.to_string()));
    let replaced = |(hash, until_s)| moment(until_s).map(|until| ReplacedSecret::new(SecretHash(hash), until));
    Ok(Service {
        id,
        name: ServiceName::parse(&row.name).map_err(|error| damaged(format!("its name {error}")))?,
        secret: SecretHash(row.secret_hash),
        replaced_secret: row.replaced_secret.map(replaced).transpose()?,
        disabled: row.disabled,
        created_at: moment(row.created_at_s)?,
        rotated_at: moment(row.rotated_at_s)?,
    })
}
