//! What is checked.

use super::unit::Unit;

/// Something that a request is, such as `country=de` and, within it, `user=u`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Keys and values, from the outermost to the innermost.
    pub entries: Vec<(String, String)>,
    /// A limit that the request brings along, in place of a rule's.
    pub limit: Option<(u64, Unit)>,
    /// How many cells, if not as many as the request says; 0 takes none, a negative number is a refund.
    pub hits: Option<i64>,
}

/// A request to check.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The domain of the rules.
    pub domain: String,
    /// What it is.
    pub descriptors: Vec<Descriptor>,
    /// How many cells of each limit.
    pub hits: i64,
    /// Whether nothing is to be taken.
    pub is_dry: bool,
}
