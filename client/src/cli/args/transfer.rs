//! Flags of the commands that read or write many versions or keys.

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::Args;

use super::eventual::RetryArgs;

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The key
    pub(crate) key: OsString,
    /// At most this many versions
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<NonZeroU64>,
    /// Without the values
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// A key without versions is no error
    #[arg(long)]
    pub(crate) missing_ok: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Only keys that begin with this
    pub(crate) prefix: Option<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The lines; `-` reads stdin
    pub(crate) file: PathBuf,
    /// Leave keys alone that exist
    #[arg(long)]
    pub(crate) if_absent: bool,
    /// Writes at once
    #[arg(long, value_name = "N", default_value = "32",
        value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub(crate) jobs: u16,
    #[command(flatten)]
    pub(crate) retry: RetryArgs,
}
