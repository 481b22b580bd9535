//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing::Level;

use crate::config::{self, Config, ServeFlags};
use crate::{serve, terminal, token};

/// Counts usage, archives it and limits rates, with redis-meter in Redis or Valkey.
#[derive(Debug, Parser)]
#[command(name = "meterd", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Default, Args)]
pub struct Common {
    /// The server: redis://, rediss://, unix://, redis+cluster://h1,h2 or redis+sentinel://h1,h2/name
    #[arg(long, global = true, env = "METERD_REDIS", value_name = "URL", hide_env_values = true)]
    pub redis: Option<String>,
    /// The archive: sqlite:FILE, postgres:// or mysql://
    #[arg(long, global = true, env = "METERD_ARCHIVE", value_name = "URL", hide_env_values = true)]
    pub archive: Option<String>,
    /// The configuration file; ./meterd.toml if there is one
    #[arg(long, global = true, env = "METERD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves HTTP: counting, usage, the page, metrics
    Serve(ServeFlags),
    /// Checks configuration, or shows it
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    #[command(flatten)]
    Terminal(terminal::Command),
    /// Makes tokens for clients
    Token {
        #[command(subcommand)]
        command: token::Command,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Reads a meterd.toml and says what is wrong in it, by line
    Check {
        /// The file; by default the one that the other commands read
        file: Option<PathBuf>,
    },
}

/// Runs the command that the arguments name. Exit code 2 is a wrong command line, 1 any other failure.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    // A command for the terminal says itself what it does.
    let is_quiet = matches!(cli.command, Command::Terminal(_));
    crate::log::start(if is_quiet { Level::WARN } else { Level::INFO });
    // A second provider, as a test may have installed, would do as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome = match cli.command {
        Command::Serve(flags) => serve::run(&cli.common, &flags),
        Command::Config { command: ConfigCommand::Check { file } } => config::check(file.or(cli.common.config)),
        Command::Token { command } => token::run(&command),
        Command::Terminal(command) => return run_in_terminal(command, &cli.common),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meterd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_in_terminal(command: terminal::Command, common: &Common) -> ExitCode {
    let run = || {
        let config = Config::load(common).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build();
        runtime.map_err(|error| error.to_string())?.block_on(command.run(config))
    };
    run().unwrap_or_else(|error| {
        eprintln!("meterd: {error}");
        ExitCode::FAILURE
    })
}

/// The configuration that a command runs with: its flags, then the environment, then the file, then the defaults.
///
/// # Errors
/// What is wrong in it, with file and line where it stands in a file.
pub fn configured(common: &Common) -> Result<Config, config::Error> {
    Config::load(common)
}
