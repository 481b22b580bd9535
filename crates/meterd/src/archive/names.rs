//! The names of the keys that belong to a meter.

use jiff::civil::Date;

/// The keys of a meter, as its server names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// What the names begin with.
    root: Vec<u8>,
}

impl Names {
    /// Of a meter; in a cluster a key without a hash tag becomes one.
    pub(crate) fn new(meter: &[u8], is_cluster: bool) -> Self {
        let root = if is_cluster && !has_tag(meter) { [b"{", meter, b"}"].concat() } else { meter.to_vec() };
        Self { root }
    }

    fn with(&self, rest: &[u8]) -> Vec<u8> {
        [&self.root, rest].concat()
    }

    /// The open batch.
    pub(crate) fn batch(&self) -> Vec<u8> {
        self.with(b":batch")
    }

    /// What an archiver writes before it waits until its connection's writes are safe.
    pub(crate) fn mark(&self) -> Vec<u8> {
        self.with(b":reader")
    }

    /// The distinct ids of a day that is stored.
    pub(crate) fn unique(&self, day: Date) -> Vec<u8> {
        self.with(format!(":day:{}:unique", compact(day)).as_bytes())
    }

    /// How far a file was imported into the meter.
    pub(crate) fn import(&self, file: &str) -> Vec<u8> {
        self.with(format!(":import:{file}").as_bytes())
    }

    /// The hours of a day in a batch.
    pub(crate) fn sealed_day(&self, batch: &str, day: Date) -> Vec<u8> {
        self.with(format!(":sealed:{batch}:day:{}", compact(day)).as_bytes())
    }

    /// The distinct ids of a day in a batch.
    pub(crate) fn sealed_unique(&self, batch: &str, day: Date) -> Vec<u8> {
        self.with(format!(":sealed:{batch}:day:{}:unique", compact(day)).as_bytes())
    }

    /// The members below a path, on a day in a batch.
    pub(crate) fn sealed_path(&self, batch: &str, day: Date, members: &[Vec<u8>]) -> Vec<u8> {
        let mut name = self.with(format!(":sealed:{batch}:day:{}:path", compact(day)).as_bytes());
        append_members(&mut name, members);
        name
    }
}

/// Whether this is the id of a batch, 32 hexadecimal digits.
pub(crate) fn is_batch_id(id: &[u8]) -> bool {
    id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit)
}

/// The meter whose derived keys begin with `root`.
pub(crate) fn meter_of(root: &[u8], is_cluster: bool) -> &[u8] {
    match root {
        [b'{', meter @ .., b'}'] if is_cluster && !has_tag(meter) && !meter.contains(&b'}') => meter,
        _ => root,
    }
}

/// Whether a cluster takes a part of the key for its slot.
fn has_tag(key: &[u8]) -> bool {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return false };
    key[open + 1..].iter().position(|&byte| byte == b'}').is_some_and(|len| len > 0)
}

/// A day as keys and commands have it: `20220809`.
pub(crate) fn compact(day: Date) -> String {
    format!("{:04}{:02}{:02}", day.year(), day.month(), day.day())
}

/// The day that is written as `20220809`.
pub(crate) fn parse_compact(text: &[u8]) -> Option<Date> {
    if text.len() != 8 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| std::str::from_utf8(&text[range]).ok()?.parse::<i16>().ok();
    Date::new(number(0..4)?, i8::try_from(number(4..6)?).ok()?, i8::try_from(number(6..8)?).ok()?).ok()
}

fn append_members(name: &mut Vec<u8>, members: &[Vec<u8>]) {
    for member in members {
        name.push(b':');
        for &byte in member {
            if byte.is_ascii_alphanumeric() || b"_.~#-".contains(&byte) {
                name.push(byte);
            } else {
                name.extend(format!("%{byte:02X}").as_bytes());
            }
        }
    }
}

/// The member that a part of a key's name stands for.
pub(crate) fn decode(part: &[u8]) -> Option<Vec<u8>> {
    let mut member = Vec::with_capacity(part.len());
    let mut rest = part;
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            member.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        member.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    (!member.is_empty()).then_some(member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_named_as_the_module_names_them() {
        let day = jiff::civil::date(2022, 8, 9);
        let names = Names::new(b"K", false);
        let path = [b"a:b".to_vec(), b"\0".to_vec()];
        assert_eq!(names.sealed_path("id", day, &path), b"K:sealed:id:day:20220809:path:a%3Ab:%00");
        assert_eq!(names.unique(day), b"K:day:20220809:unique");
        assert_eq!(names.sealed_day("id", day), b"K:sealed:id:day:20220809");
        assert_eq!(Names::new(b"K", true).batch(), b"{K}:batch");
        assert_eq!(Names::new(b"a{K}", true).batch(), b"a{K}:batch");
        assert_eq!(Names::new(b"a{}", true).batch(), b"{a{}}:batch");
        assert_eq!(meter_of(b"{K}", true), b"K");
        assert_eq!(meter_of(b"{K}", false), b"{K}");
        assert_eq!(meter_of(b"a{K}", true), b"a{K}");
    }

    proptest! {
        #[test]
        fn members_come_back(member in prop::collection::vec(any::<u8>(), 1..20)) {
            let mut name = Vec::new();
            append_members(&mut name, std::slice::from_ref(&member));
            prop_assert!(!name[1..].contains(&b':'));
            prop_assert_eq!(decode(&name[1..]), Some(member));
        }

        #[test]
        fn days_come_back(days in -30_000i32..30_000) {
            use jiff::ToSpan;
            let day = jiff::civil::date(2000, 1, 1).checked_add(days.days()).expect("a day");
            prop_assert_eq!(parse_compact(compact(day).as_bytes()), Some(day));
        }
    }
}
