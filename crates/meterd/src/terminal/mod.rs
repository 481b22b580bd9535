//! The commands for the terminal.

mod archive;
mod progress;
mod report;

use std::process::ExitCode;

use clap::Subcommand;

use crate::config::Config;

/// A command for the terminal.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Moves finished days of meters to SQL
    Archive(archive::Arguments),
    /// Prints what a meter has counted, in Redis and in SQL together
    Report(report::Arguments),
}

impl Command {
    /// Runs it to its end.
    ///
    /// # Errors
    /// A sentence for the user.
    pub async fn run(self, config: Config) -> Result<ExitCode, String> {
        match self {
            Self::Archive(arguments) => archive::run(arguments, config).await,
            Self::Report(arguments) => report::run(arguments, config).await,
        }
    }
}
