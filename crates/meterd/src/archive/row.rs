//! What is written: the counts of hours, of members of breakdowns, and sketches of distinct ids.
//!
//! Names are bytes of any length, and databases index only short ones: a row's key has the names' SHA-256 instead, and
//! the names stand beside it.

use std::sync::Arc;

use jiff::civil::Date;
use sha2::{Digest, Sha256};

/// A SHA-256.
pub(crate) type Hash = [u8; 32];

/// Levels of a path at most.
pub(crate) const MOST_LEVELS: usize = 8;

/// A meter's name and its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meter {
    pub(crate) name: Vec<u8>,
    pub(crate) hash: Hash,
}

impl Meter {
    pub(crate) fn new(name: &[u8]) -> Self {
        Self { name: name.to_vec(), hash: hash(name) }
    }
}

/// The count of an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HourRow {
    pub(crate) day: Date,
    /// 0..=23, UTC.
    pub(crate) hour: i64,
    pub(crate) count: i64,
}

/// The distinct ids of a day.
#[derive(Clone, Debug)]
pub(crate) struct UniqueRow {
    pub(crate) day: Date,
    pub(crate) sketch: super::sketch::Sketch,
}

/// The path above a member: the set in which it is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    /// As `2022-08-09`.
    pub(crate) day: String,
    pub(crate) members: Vec<Vec<u8>>,
    pub(crate) hash: Hash,
}

impl Parent {
    /// The set of a meter below `members` (at most 7), on a day.
    pub(crate) fn new(meter: &[u8], day: Date, members: Vec<Vec<u8>>) -> Self {
        let hash = parent_hash(meter, &members);
        Self { day: day.to_string(), members, hash }
    }

    /// The level of what is counted in it, from 1.
    pub(crate) fn depth(&self) -> usize {
        self.members.len() + 1
    }
}

/// The count of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathRow {
    pub(crate) parent: Arc<Parent>,
    pub(crate) member: Vec<u8>,
    pub(crate) member_hash: Hash,
    pub(crate) count: i64,
}

impl PathRow {
    pub(crate) fn new(parent: Arc<Parent>, member: Vec<u8>, count: i64) -> Self {
        let member_hash = hash(&member);
        Self { parent, member, member_hash, count }
    }

    /// The member at a level, from 0.
    pub(crate) fn member(&self, level: usize) -> &[u8] {
        self.parent.members.get(level).map_or(&self.member, Vec::as_slice)
    }

    /// About as many bytes as its names take in a statement.
    pub(crate) fn bytes(&self) -> usize {
        self.member.len() + self.parent.members.iter().map(Vec::len).sum::<usize>()
    }
}

/// The SHA-256 of a name.
pub(crate) fn hash(name: &[u8]) -> Hash {
    Sha256::digest(name).into()
}

/// The SHA-256 of the hashes of a meter's name and of the members above, so that no two paths have the same.
pub(crate) fn parent_hash<M: AsRef<[u8]>>(meter: &[u8], members: &[M]) -> Hash {
    let mut all = Sha256::new();
    all.update(hash(meter));
    for member in members {
        all.update(hash(member.as_ref()));
    }
    all.finalize().into()
}

/// A name for people: bytes that are no printable ASCII, and `%`, percent-encoded; a long one is cut.
pub(crate) fn shown(name: &[u8]) -> String {
    const MOST: usize = 200;
    let mut text = String::new();
    for &byte in name.iter().take(MOST) {
        match byte {
            b'%' => text.push_str("%25"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    if name.len() > MOST {
        text.push_str(&format!("… ({} bytes)", name.len()));
    }
    text
}
