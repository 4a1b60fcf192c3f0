//! The output of a command that writes a whole file: a file of the given name, or stdout.
//!
//! Guarantees: a file has its name only when it is complete, synced and readable by its owner alone. An existing file stays if anything
//! fails, and unless `--force` is given.

use std::{fs::File, io, os::fd::AsFd as _, path::Path};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::{stdout::print_line, usage_error::UsageError};
use crate::{
    config::Config,
    store::{AtomicFile, DataDir},
};

/// How to write the file.
#[derive(Args)]
pub(super) struct OutputFile {
    /// Replace the file where it exists
    #[arg(long)]
    force: bool,

    /// Print as JSON what was written
    #[arg(long)]
    json: bool,
}

/// Whether `file` stands for stdin or stdout.
pub(super) fn is_pipe(file: &Path) -> bool {
    file == Path::new("-")
}

impl OutputFile {
    /// Whether the call makes sense, before anything is done.
    pub(super) fn check(&self, file: &Path) -> anyhow::Result<()> {
        if self.json && is_pipe(file) {
            return Err(UsageError("--json needs a FILE, since stdout is where the data goes".to_owned()).into());
        }
        Ok(())
    }

    /// Has `write` write what becomes `file`.
    pub(super) fn fill(
        &self,
        file: &Path,
        config: &Config,
        write: impl FnOnce(&File) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if is_pipe(file) {
            return write(&io::stdout().as_fd().try_clone_to_owned().context("cannot write to stdout")?.into());
        }
        DataDir::refuse_own(&config.data_dir, file)?;
        let cannot = || format!("cannot write {}", file.display());
        let whole = AtomicFile::create(file, self.force).with_context(cannot)?;
        write(whole.file()).with_context(cannot)?;
        let bytes = whole.file().metadata().with_context(cannot)?.len();
        whole.put().with_context(cannot)?;
        if self.json {
            return print_line(json!({ "file": file.to_string_lossy(), "bytes": bytes }));
        }
        print_line(format_args!("wrote {} ({bytes} bytes)", file.display()))
    }
}
