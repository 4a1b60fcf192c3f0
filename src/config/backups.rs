//! The settings of the backups that the server makes by itself.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::values::{self, trimmed};

/// Where backups are made, how often, and how many are kept.
#[derive(Debug, Clone)]
pub struct BackupSchedule {
    /// The directory.
    pub dir: PathBuf,
    /// The time between two backups.
    pub every: Duration,
    /// How many are kept.
    pub keep: usize,
}

/// The settings of the backups.
#[derive(Debug, Clone, Args)]
pub struct BackupSettings {
    /// Directory for backups that the server makes by itself, checks, and names by their time. By default it makes none.
    #[arg(long, global = true, env = "LATCHKEY_BACKUP_DIR", help_heading = "Backups", value_name = "DIR",
          value_parser = values::path())]
    pub backup_dir: Option<PathBuf>,

    /// How often a backup is made, such as 24h; from 1s to 365d.
    #[arg(long, global = true, env = "LATCHKEY_BACKUP_EVERY", help_heading = "Backups", value_name = "DURATION",
          default_value = "24h", value_parser = trimmed(values::backup_interval))]
    pub backup_every: Duration,

    /// How many backups are kept. Older ones are removed after a new one was found sound.
    #[arg(long, global = true, env = "LATCHKEY_BACKUP_KEEP", help_heading = "Backups", value_name = "BACKUPS",
          default_value_t = 7, value_parser = trimmed(clap::value_parser!(u16).range(1..)))]
    pub backup_keep: u16,
}

impl BackupSettings {
    /// Returns the schedule, or `None` if there is no directory.
    #[must_use]
    pub fn schedule(&self) -> Option<BackupSchedule> {
        let dir = self.backup_dir.clone()?;
        Some(BackupSchedule { dir, every: self.backup_every, keep: self.backup_keep.into() })
    }
}
