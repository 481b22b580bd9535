//! The rules as they are written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::config::Error;

/// One document: the rules of a domain.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) domain: Spanned<String>,
    #[serde(default)]
    pub(super) descriptors: Vec<Spanned<Entry>>,
    pub(super) shard_by: Option<Spanned<String>>,
    pub(super) headers: Option<Spanned<String>>,
    pub(super) deadline: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) remember_refusals: bool,
}

/// What one entry of a request's descriptor is matched against.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) key: String,
    #[serde(default)]
    pub(super) value: String,
    pub(super) rate_limit: Option<Spanned<RateLimit>>,
    pub(super) in_flight: Option<Spanned<InFlight>>,
    #[serde(default)]
    pub(super) overrides: BTreeMap<String, Spanned<RateLimit>>,
    pub(super) on_error: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) shadow_mode: bool,
    #[serde(default)]
    pub(super) detailed_metric: bool,
    #[serde(default)]
    pub(super) share_threshold: bool,
    #[serde(default)]
    pub(super) descriptors: Vec<Spanned<Entry>>,
}

/// `rate_limit`, and what an override changes of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RateLimit {
    pub(super) name: Option<String>,
    pub(super) replaces: Vec<Replaced>,
    pub(super) unit: Option<String>,
    pub(super) period: Option<String>,
    pub(super) requests_per_unit: Option<u64>,
    pub(super) limit: Option<u64>,
    pub(super) unlimited: Option<bool>,
    pub(super) algorithm: Option<String>,
    pub(super) burst: Option<u64>,
    pub(super) block: Option<String>,
    pub(super) anchor: Option<String>,
    pub(super) offset: Option<String>,
}

/// `replaces: [{name: …}]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replaced {
    pub(super) name: String,
}

/// `in_flight`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InFlight {
    pub(super) limit: u64,
    pub(super) ttl: Option<String>,
}

impl RateLimit {
    /// With what an override names in its place. A limit or a span has two names, of which the override may use the
    /// other one; and a burst that was chosen for another limit does not stay.
    pub(super) fn overridden(&self, by: &Self) -> Self {
        let has_limit = by.limit.is_some() || by.requests_per_unit.is_some();
        let has_span = by.unit.is_some() || by.period.is_some() || by.unlimited == Some(true);
        let keep = |given: bool, own: Option<u64>| if given { None } else { own };
        let keep_span = |own: &Option<String>| if has_span { None } else { own.clone() };
        Self {
            name: self.name.clone(),
            replaces: self.replaces.clone(),
            unit: by.unit.clone().or_else(|| keep_span(&self.unit)),
            period: by.period.clone().or_else(|| keep_span(&self.period)),
            requests_per_unit: by.requests_per_unit.or(keep(has_limit, self.requests_per_unit)),
            limit: by.limit.or(keep(has_limit, self.limit)),
            unlimited: by.unlimited,
            algorithm: self.algorithm.clone(),
            burst: by.burst.or(keep(has_limit, self.burst)),
            block: by.block.clone().or_else(|| self.block.clone()),
            anchor: by.anchor.clone().or_else(|| self.anchor.clone()),
            offset: by.offset.clone().or_else(|| self.offset.clone()),
        }
    }
}

/// The files that a path names: itself, or those of a folder that end in `.yaml` or `.yml`, by name.
///
/// # Errors
/// When a folder can't be read, or has none.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |error| Error::in_file(path, format!("not readable: {error}"));
    let entries = fs::read_dir(path).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let mut files: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).filter(|file| is_yaml(file)).collect();
    files.sort();
    match files.is_empty() {
        true => Err(Error::in_file(path, "there is no file in it whose name ends in .yaml or .yml")),
        false => Ok(files),
    }
}

/// Whether a file's name says that it has rules.
pub(crate) fn is_yaml(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending == "yaml" || ending == "yml")
}

/// The documents of a file.
///
/// # Errors
/// What is wrong in it, with its line.
pub(super) fn read(file: &Path) -> Result<Vec<Document>, Error> {
    let text = fs::read_to_string(file).map_err(|error| Error::in_file(file, format!("not readable: {error}")))?;
    let read: Result<Vec<Document>, _> = serde_saphyr::from_multiple(&text);
    let documents = read.map_err(|error| {
        let message = error.without_snippet().to_string();
        // The library's sentence ends with its place, which stands at the head here.
        let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
        match error.location().filter(|place| place.line() > 0) {
            Some(place) => Error::on_line(file, place.line(), message).in_plain_words(),
            None => Error::in_file(file, message).in_plain_words(),
        }
    })?;
    match documents.is_empty() {
        true => Err(Error::in_file(file, "there is no domain in it: begin with  domain: name")),
        false => Ok(documents),
    }
}
