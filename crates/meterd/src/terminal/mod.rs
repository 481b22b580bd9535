//! The commands for the terminal.

mod archive;
mod check;
mod doctor;
mod import;
mod progress;
mod report;
mod top;

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
    /// Counts the lines of access logs, each once however often it is given
    Import(import::Arguments),
    /// Shows which meters are hit most now, and which limits refuse most
    Top(top::Arguments),
    /// Says what limits would say, without taking: of descriptors, by the rules; or what a key holds
    Check(check::Arguments),
    /// Says what is wrong for billing with server, module, persistence, eviction, replicas and archive
    Doctor(doctor::Arguments),
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
            Self::Import(arguments) => import::run(arguments, config).await,
            Self::Top(arguments) => top::run(arguments, config).await,
            Self::Check(arguments) => check::run(&arguments, config).await,
            Self::Doctor(arguments) => doctor::run(arguments, config).await,
        }
    }
}
