//! The id of a lease, which has all that is needed to release it: the holder, and the keys with its places.

use std::fmt;

use crate::name;

/// The hex digits of a holder.
const DIGITS: usize = 32;

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseId {
    /// Its holder.
    pub holder: String,
    /// The keys without that prefix.
    places: Vec<String>,
}

/// The prefix of the keys of all limits.
pub(super) const HEAD: &str = "limit:";

impl LeaseId {
    /// The name of a holder, which cannot be guessed.
    pub(super) fn holder() -> Option<String> {
        let mut random = [0; DIGITS / 2];
        getrandom::fill(&mut random).ok()?;
        Some(random.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Of these keys.
    pub(super) fn new(holder: &str, keys: &[&[u8]]) -> Self {
        let places = keys.iter().map(|key| {
            let key = String::from_utf8_lossy(key);
            key.strip_prefix(HEAD).unwrap_or(&key).to_owned()
        });
        Self { holder: holder.to_owned(), places: places.collect() }
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let text = String::from_utf8(name::from_path(text)).ok()?;
        let (holder, places) = text.split_once('~')?;
        let is_holder = holder.len() == DIGITS && holder.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_holder
            .then(|| Self { holder: holder.to_owned(), places: places.split(',').map(ToOwned::to_owned).collect() })
    }

    /// The keys, if all of them are places of this domain.
    pub fn keys(&self, domain: &str) -> Option<Vec<Vec<u8>>> {
        let domain = format!("{{{}", name::to_path(domain.as_bytes()));
        let is_place = |place: &str| {
            let rest = place.strip_prefix(&domain).unwrap_or_default();
            let is_of_domain = rest.starts_with('}') || rest.starts_with('/');
            is_of_domain && rest.split_once("}:").is_some_and(|(_, rest)| rest.starts_with("in_flight:"))
        };
        let keys = self.places.iter().map(|place| is_place(place).then(|| format!("{HEAD}{place}").into_bytes()));
        keys.collect()
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&name::to_path(format!("{}~{}", self.holder, self.places.join(",")).as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_as_it_is_written_and_names_places_of_its_domain_alone() {
        let holder = LeaseId::holder().expect("random bytes");
        let keys: [&[u8]; 2] = [b"limit:{shop}:in_flight:export=a%2Cb", b"limit:{shop/u}:in_flight:all=1"];
        let id = LeaseId::new(&holder, &keys);
        assert_eq!(LeaseId::parse(&id.to_string()), Some(id.clone()));
        assert_eq!(id.keys("shop"), Some(keys.iter().map(|key| key.to_vec()).collect()));
        assert_eq!(id.keys("sho"), None);
        for wrong in ["", "~", "abc~{shop}:in_flight:a=b", &"g".repeat(DIGITS + 2)] {
            assert_eq!(LeaseId::parse(wrong), None, "{wrong}");
        }
        for foreign in ["limit:{shop}:gcra:a=b", "limit:{shopping}:in_flight:a=b", "users"] {
            assert_eq!(LeaseId::new(&holder, &[foreign.as_bytes()]).keys("shop"), None, "{foreign}");
        }
    }
}
