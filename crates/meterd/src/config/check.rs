//! `meterd config check`.

use std::path::{Path, PathBuf};

use super::{Config, DEFAULT_FILE, Error};
use crate::cli::Common;
use crate::gateway::{self, Rules, Tallies};
use crate::say::say;

/// Reads a file as the other commands would, and says that it is right.
///
/// # Errors
/// What is wrong in it, with file and line.
pub fn check(file: Option<PathBuf>) -> Result<(), Error> {
    let file = file.unwrap_or_else(|| DEFAULT_FILE.into());
    if !Path::new(&file).exists() {
        return Err(Error::in_file(&file, "there is no such file"));
    }
    if file.is_dir() || gateway::is_yaml(&file) {
        Rules::read(&file, &Tallies::default())?;
    } else {
        let config = Config::load(&Common { config: Some(file.clone()), ..Common::default() })?;
        config.limits.map(|rules| Rules::read(&rules, &Tallies::default())).transpose()?;
    }
    say!("{}: right", file.display());
    Ok(())
}
