//! Sets, for which the API has no functions.

use super::super::string::Str;
use super::{Access, Key, Set};

impl<A: Access> Key<'_, Set, A> {
    /// Whether `member` is in the set.
    pub(crate) fn contains(&self, member: Str<'_>) -> bool {
        self.exists()
            && self.context().call(c"SISMEMBER", &[self.name(), member]).is_some_and(|reply| reply.integer() == 1)
    }
}
