//! Names of meters, members and keys as text: they are bytes, which JSON, URLs and pages can't hold.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// What stays as it is in a part of a key's name, and in a part of a URL's path.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'~').remove(b'-');

/// UTF-8 as it is; any other name percent-encoded, as parts of key names are.
pub fn shown(name: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(name) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(percent_encode(name, PLAIN).to_string()),
    }
}

/// A name as one segment of a URL's path; [`from_path`] reads it.
pub fn to_path(name: &[u8]) -> String {
    percent_encode(name, PLAIN).to_string()
}

/// The bytes that a segment of a URL's path stands for.
pub fn from_path(segment: &str) -> Vec<u8> {
    percent_decode_str(segment).collect()
}

/// What a glob pattern must say to mean these bytes and no others.
pub fn glob(name: &[u8]) -> Vec<u8> {
    let escaped = name.iter().flat_map(|&byte| match byte {
        b'*' | b'?' | b'[' | b']' | b'\\' => vec![b'\\', byte],
        _ => vec![byte],
    });
    escaped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back_from_a_path() {
        let all: Vec<u8> = (0..=255).collect();
        for name in [&all[..], b"kpi:sessions:app:shop", b"", b"a/b?c#d%", "naïve".as_bytes()] {
            assert_eq!(from_path(&to_path(name)), name);
        }
    }

    #[test]
    fn only_names_that_are_not_utf8_are_encoded() {
        assert_eq!(shown("kpi:näme%".as_bytes()), "kpi:näme%");
        assert_eq!(shown(b"kpi:\xff"), "kpi%3A%FF");
    }
}
