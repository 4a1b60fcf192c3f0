//! `latchkey export` and `latchkey import`: users as lines of JSON.
//!
//! Guarantees: a message about a line has its number.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, IsTerminal as _, Read, Seek as _, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    check::counted,
    client::InitFlag,
    output_file::{OutputFile, is_pipe},
    progress::ProgressBar,
    stdout::{self, print_line},
    transfer::{DataAccess, scratch},
    usage_error::UsageError,
};
use crate::{
    auth::transfer::{
        ImportReport,
        sources::{self, ColumnMap, ConversionReport, FirebaseHashConfig, ImportSource, TranscodingReader},
    },
    clock::{Clock as _, SystemClock},
    config::Config,
};

/// Arguments of `latchkey export`.
#[derive(Args)]
pub(super) struct Export {
    /// The file to make; without it, or with -, stdout
    #[arg(default_value = "-")]
    file: PathBuf,

    #[command(flatten)]
    target: OutputFile,
}

impl Export {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<()> {
        self.target.check(&self.file)?;
        let data = DataAccess::find(config)?;
        self.target.fill(&self.file, config, |mut file| data.export(&mut file, &mut ProgressBar::new("export")))
    }
}

/// Arguments of `latchkey import`.
#[derive(Args)]
pub(super) struct Import {
    /// The file to read; without it, or with -, stdin
    #[arg(default_value = "-")]
    file: PathBuf,

    /// Which system wrote the file
    #[arg(long, value_enum, default_value_t, value_name = "SYSTEM")]
    from: SourceSystem,

    /// With --from csv: the columns, such as email=mail,disabled=locked; a field that is not named has the column of its own name
    #[arg(long, value_name = "FIELD=COLUMN,…")]
    map: Option<String>,

    /// With --from firebase: a file with the project's password hash parameters, as the Firebase console shows them
    #[arg(long, value_name = "FILE")]
    firebase_hash_config: Option<PathBuf>,

    #[command(flatten)]
    make: InitFlag,

    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Print as JSON what was done
    #[arg(long)]
    json: bool,
}

/// The systems whose files are read.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum SourceSystem {
    /// One JSON object per line, as `latchkey export` writes
    #[default]
    Latchkey,
    /// JSON of `manage.py dumpdata`
    Django,
    /// JSON of `firebase auth:export`
    Firebase,
    /// JSON of a realm, or of its users
    Keycloak,
    /// The export with password hashes, one JSON object per line
    Auth0,
    /// CSV of the table auth.users
    Supabase,
    /// Any table as CSV with a header
    Csv,
}

impl Import {
    /// Returns the source to convert, or `None` for the format of an export.
    fn source(&self) -> anyhow::Result<Option<ImportSource>> {
        let only = |option: &str, system: &str| UsageError(format!("{option} goes with --from {system}"));
        if self.map.is_some() && self.from != SourceSystem::Csv {
            return Err(only("--map", "csv").into());
        }
        if self.firebase_hash_config.is_some() && self.from != SourceSystem::Firebase {
            return Err(only("--firebase-hash-config", "firebase").into());
        }
        Ok(Some(match self.from {
            SourceSystem::Latchkey => return Ok(None),
            SourceSystem::Django => ImportSource::Django,
            SourceSystem::Keycloak => ImportSource::Keycloak,
            SourceSystem::Auth0 => ImportSource::Auth0,
            SourceSystem::Supabase => ImportSource::Supabase,
            SourceSystem::Csv => {
                let map = ColumnMap::parse(self.map.as_deref().unwrap_or_default());
                ImportSource::Csv(map.map_err(|error| UsageError(format!("--map: {error}")))?)
            }
            SourceSystem::Firebase => {
                let missing = "--from firebase needs --firebase-hash-config FILE: in the Firebase console, Authentication, Users, the \
                               menu with three dots, Password hash parameters";
                let file = self.firebase_hash_config.as_ref().ok_or_else(|| UsageError(missing.to_owned()))?;
                let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
                let text = Zeroizing::new(text);
                ImportSource::Firebase(FirebaseHashConfig::parse(&text).with_context(|| file.display().to_string())?)
            }
        }))
    }

    pub(super) fn run(self, config: &Config) -> anyhow::Result<()> {
        let source = self.source()?;
        if is_pipe(&self.file) && io::stdin().is_terminal() {
            return Err(UsageError("name a FILE to import, or send one to stdin".to_owned()).into());
        }
        let cannot = || format!("cannot read {}", self.file.display());
        let given = if is_pipe(&self.file) { None } else { Some(File::open(&self.file).with_context(cannot)?) };
        let data = DataAccess::find_or_make(&self.make, config)?;
        let name = if is_pipe(&self.file) { "stdin".into() } else { self.file.to_string_lossy() };
        let (file, conversion) = match given {
            // An import reads its input twice, and a pipe can be read only once.
            Some(file) if source.is_none() && can_be_read_in_place(&file).with_context(cannot)? => {
                (file, ConversionReport::default())
            }
            given => {
                let mut spool = scratch(config)?;
                let input: Box<dyn Read> = given.map_or_else(|| Box::new(io::stdin()) as _, |file| Box::new(file) as _);
                let filled = write_lines(&mut spool, source.as_ref(), input);
                let report = filled.with_context(|| match source {
                    Some(_) => format!("cannot import {name}"),
                    None => format!("cannot copy {name} to the data directory"),
                })?;
                (spool, report)
            }
        };
        let mut bar = ProgressBar::new("import");
        let report = data.import(file, self.dry_run, &mut bar)?;
        drop(bar);
        if self.json {
            let mut said = json!(report);
            said["dry_run"] = self.dry_run.into();
            if source.is_some() {
                said["left_out"] = json!(conversion.left_out);
                said["unused_fields"] = json!(conversion.unused_fields);
            }
            print_line(said)?;
        } else {
            self.say(&report)?;
            say_conversion(&conversion)?;
        }
        if report.bad > 0 {
            let are = if report.bad == 1 { "is" } else { "are" };
            bail!("{} of the lines {are} not good, so nothing was imported", report.bad);
        }
        if report.differing > 0 {
            let users = counted(report.differing, "user");
            let stay = if report.differing == 1 { "is there with other data and stays as it is" } else { STAY };
            bail!("{users} {stay}");
        }
        Ok(())
    }

    fn say(&self, report: &ImportReport) -> anyhow::Result<()> {
        let line = match self.from {
            SourceSystem::Latchkey | SourceSystem::Auth0 => "line",
            SourceSystem::Csv | SourceSystem::Supabase => "row",
            SourceSystem::Django | SourceSystem::Firebase | SourceSystem::Keycloak => "object",
        };
        for remark in &report.lines {
            stdout::remark(format_args!("{line} {}: {}", remark.line, remark.message));
        }
        if report.bad == 0 {
            let added = if self.dry_run { "would add" } else { "added" };
            let were = if report.unchanged == 1 { "was" } else { "were" };
            let users = counted(report.added, "user");
            print_line(format_args!("{added} {users}, {} {were} there already", report.unchanged))?;
        }
        if self.dry_run && !report.hash_formats.is_empty() {
            print_line("password hashes:")?;
            let width = report.hash_formats.keys().map(String::len).max().unwrap_or_default();
            for (format, users) in &report.hash_formats {
                print_line(format_args!("  {format:width$}  {users}"))?;
            }
        }
        Ok(())
    }
}

/// Prints what was not converted.
fn say_conversion(conversion: &ConversionReport) -> anyhow::Result<()> {
    for (reason, left_out) in &conversion.left_out {
        let more = if left_out.accounts > left_out.named.len() as u64 { ", …" } else { "" };
        let (accounts, named) = (counted(left_out.accounts, "account"), left_out.named.join(", "));
        print_line(format_args!("left out {accounts} with {reason}: {named}{more}"))?;
    }
    if !conversion.unused_fields.is_empty() {
        let fields = conversion.unused_fields.iter().map(|(field, count)| format!("{field} ({count})"));
        print_line(format_args!("not used: {}", fields.collect::<Vec<_>>().join(", ")))?;
    }
    Ok(())
}

/// Whether a file can be read as it is: twice, and without a byte order mark.
fn can_be_read_in_place(mut file: &File) -> io::Result<bool> {
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut start = Vec::new();
    file.take(3).read_to_end(&mut start)?;
    file.rewind()?;
    Ok(!matches!(start[..], [0xef, 0xbb, 0xbf] | [0xff, 0xfe, ..] | [0xfe, 0xff, ..]))
}

/// Writes `input` to `spool` as lines that an import reads.
fn write_lines(
    spool: &mut File,
    source: Option<&ImportSource>,
    input: Box<dyn Read>,
) -> anyhow::Result<ConversionReport> {
    let mut out = BufWriter::new(spool);
    let report = if let Some(source) = source {
        sources::convert(source, input, &mut out, SystemClock.now())?
    } else {
        io::copy(&mut TranscodingReader::new(BufReader::new(input))?, &mut out)?;
        ConversionReport::default()
    };
    out.flush()?;
    Ok(report)
}

const STAY: &str = "are there with other data and stay as they are";
