//! Rules: which limit a descriptor meets.

mod compile;
mod file;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use compile::gcra;
pub(crate) use file::{files, is_yaml};

use super::limit::Limit;
use super::tally::{Tallies, Tally};
use crate::config::Error;

/// All domains.
#[derive(Debug, Default)]
pub struct Rules(HashMap<String, Domain>);

/// The rules of a domain.
#[derive(Debug)]
pub struct Domain {
    pub(super) settings: Arc<Settings>,
    root: Node,
    /// What limits that requests bring along have decided.
    pub(super) by_request: Arc<Tally>,
}

/// What holds for a whole domain.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub domain: String,
    /// Which headers say what is left.
    pub headers: Headers,
    /// How long a check may take, if not as long as any call to Redis.
    pub deadline: Option<Duration>,
    /// Whether a refused key is refused without asking until its time has come.
    pub remember_refusals: bool,
    /// The key whose value says on which node of a cluster a request's limits are.
    pub shard_by: Option<String>,
}

/// Which headers say what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Headers {
    /// `RateLimit` and `RateLimit-Policy`, structured fields of the IETF draft's version 10.
    #[default]
    Draft10,
    /// `RateLimit-Limit`, `-Remaining` and `-Reset`, of the draft's version 3.
    Draft03,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
    X,
    /// None.
    None,
}

impl Headers {
    pub(crate) const NAMES: &str = "draft-10, draft-03, x-ratelimit or none";

    /// By the name in rules and requests.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "draft-10" => Some(Self::Draft10),
            "draft-03" => Some(Self::Draft03),
            "x-ratelimit" => Some(Self::X),
            "none" => Some(Self::None),
            _ => None,
        }
    }
}

/// What is answered when Redis can't be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The request passes.
    Allow,
    /// It does not.
    #[default]
    Deny,
}

/// The limits that a descriptor meets; none where it is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy(pub(super) Vec<Arc<Limit>>);

/// What a descriptor that matches is subject to.
#[derive(Debug)]
pub struct Rule {
    /// How it is called in metrics, and in headers if it has no name: its keys and values.
    pub label: Arc<str>,
    /// The name that other rules replace it by.
    pub name: Option<Arc<str>>,
    pub(super) replaces: Vec<String>,
    pub(super) policy: Policy,
    pub(super) overrides: HashMap<String, Policy>,
    /// Whether it counts but never refuses.
    pub is_shadow: bool,
    pub(super) is_detailed: bool,
    /// The wildcard whose values all share one limit.
    pub(super) shared: Option<String>,
    /// What is answered when Redis can't be asked.
    pub on_error: OnError,
    pub(super) tally: Arc<Tally>,
}

/// A place in the tree of descriptors.
#[derive(Debug, Default)]
pub(super) struct Node {
    rule: Option<Arc<Rule>>,
    children: HashMap<String, Values>,
}

/// The descriptors of one key at one level.
#[derive(Debug, Default)]
struct Values {
    exact: HashMap<String, Node>,
    /// By what stands before the star, in the order of the file.
    wildcards: Vec<(String, Node)>,
    any: Option<Box<Node>>,
}

impl Node {
    /// Adds a child; false if there is one for this key and value.
    fn add(&mut self, key: &str, value: &str, child: Self) -> bool {
        let values = self.children.entry(key.to_owned()).or_default();
        if value.is_empty() {
            return values.any.replace(Box::new(child)).is_none();
        }
        if let Some(prefix) = value.strip_suffix('*') {
            let is_new = values.wildcards.iter().all(|(other, _)| other != prefix);
            values.wildcards.push((prefix.to_owned(), child));
            return is_new;
        }
        values.exact.insert(value.to_owned(), child).is_none()
    }

    /// The child for an entry: of this very value, else of the first wildcard that fits, else of the key alone.
    fn next(&self, key: &str, value: &str) -> Option<&Self> {
        let values = self.children.get(key)?;
        let by_wildcard = || values.wildcards.iter().find(|(prefix, _)| value.starts_with(prefix.as_str()));
        let found = values.exact.get(value).or_else(|| by_wildcard().map(|(_, node)| node));
        found.or(values.any.as_deref())
    }
}

impl Domain {
    /// The rule for a descriptor's entries, which is as deep as they are many.
    pub(super) fn find(&self, entries: &[(String, String)]) -> Option<&Arc<Rule>> {
        let node = entries.iter().try_fold(&self.root, |node, (key, value)| node.next(key, value))?;
        node.rule.as_ref().filter(|_| !entries.is_empty())
    }

    /// Whether a descriptor can have an entry of the key `inner` below one of `key` and `value` at its top.
    pub(crate) fn nests(&self, above: &[(String, String)], inner: &str) -> bool {
        let node = above.iter().try_fold(&self.root, |node, (key, value)| node.next(key, value));
        node.is_some_and(|node| node.children.contains_key(inner))
    }
}

impl Rule {
    /// The limits for the value of a descriptor's last entry.
    pub(super) fn policy(&self, value: &str) -> &Policy {
        self.overrides.get(value).unwrap_or(&self.policy)
    }
}

impl Rules {
    /// Reads a file of YAML, which may have several documents, or all of a folder.
    ///
    /// # Errors
    /// The first thing that is wrong, with file and line.
    pub fn read(path: &Path, tallies: &Tallies) -> Result<Self, Error> {
        let mut domains = HashMap::new();
        for file in files(path)? {
            for document in file::read(&file)? {
                let domain = compile::domain(&file, &document, tallies)?;
                let name = document.domain.value.clone();
                if domains.insert(name.clone(), domain).is_some() {
                    let message = format!("the domain \"{name}\" is there twice: put its descriptors together");
                    return Err(Error::on_line(&file, document.domain.referenced.line(), message));
                }
            }
        }
        Ok(Self(domains))
    }

    /// A domain.
    pub fn domain(&self, name: &str) -> Option<&Domain> {
        self.0.get(name)
    }

    /// How many domains there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests;
