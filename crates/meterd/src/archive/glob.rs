//! Patterns of names, as `KEYS` and `SCAN … MATCH` have them.

/// A pattern: `*`, `?`, `[a-z]`, `[^a]`, and `\` before what is meant as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob(Vec<u8>);

impl Glob {
    pub(crate) fn new(pattern: &[u8]) -> Self {
        Self(pattern.to_vec())
    }

    /// As it was written.
    pub(crate) fn pattern(&self) -> &[u8] {
        &self.0
    }

    /// The only name that it can match; `None` if there may be several.
    pub(crate) fn literal(&self) -> Option<&[u8]> {
        (!self.0.iter().any(|byte| b"*?[\\".contains(byte))).then_some(&self.0)
    }

    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        // Where the last `*` was, and how much of the name it has taken.
        let (mut pattern, mut rest) = (&self.0[..], name);
        let mut star: Option<(&[u8], &[u8])> = None;
        loop {
            if let [b'*', after @ ..] = pattern {
                star = Some((after, rest));
                pattern = after;
                continue;
            }
            match (one(pattern, rest), rest.is_empty()) {
                (Some(after), false) => (pattern, rest) = (after, &rest[1..]),
                (_, true) if pattern.is_empty() => return true,
                _ => match star {
                    Some((after, [_, taken @ ..])) => {
                        star = Some((after, taken));
                        (pattern, rest) = (after, taken);
                    }
                    _ => return false,
                },
            }
        }
    }
}

/// The rest of a pattern whose first part matches the first byte of `name`.
fn one<'a>(pattern: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let byte = *name.first()?;
    match pattern {
        [] => None,
        [b'?', after @ ..] => Some(after),
        [b'\\', literal, after @ ..] => (*literal == byte).then_some(after),
        [b'[', set @ ..] => class(set, byte),
        [literal, after @ ..] => (*literal == byte).then_some(after),
    }
}

/// The rest of a pattern after a set of bytes, if that has `byte`.
fn class(set: &[u8], byte: u8) -> Option<&[u8]> {
    let (is_not, mut set) = match set {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, set),
    };
    let mut found = false;
    loop {
        match set {
            [] | [b']'] => return (found != is_not).then_some(&[]),
            [b']', after @ ..] => return (found != is_not).then_some(after),
            [b'\\', literal, after @ ..] => {
                found |= *literal == byte;
                set = after;
            }
            [from, b'-', to, after @ ..] if *to != b']' => {
                let (low, high) = (from.min(to), from.max(to));
                found |= (low..=high).contains(&&byte);
                set = after;
            }
            [literal, after @ ..] => {
                found |= *literal == byte;
                set = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_the_server() {
        for (pattern, name, matches) in [
            ("*", "", true),
            ("kpi:*", "kpi:sessions", true),
            ("kpi:*:a", "kpi:x:a:b:a", true),
            ("kpi:*:a", "kpi:x:a:b", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("a*b*c", "aXbYc", true),
            ("a", "ab", false),
            ("", "", true),
        ] {
            assert_eq!(Glob::new(pattern.as_bytes()).matches(name.as_bytes()), matches, "{pattern} {name}");
        }
        assert_eq!(Glob::new(b"a:b").literal(), Some(&b"a:b"[..]));
        assert_eq!(Glob::new(b"a*").literal(), None);
    }
}
