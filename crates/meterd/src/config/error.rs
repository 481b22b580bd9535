//! What is wrong with the configuration.

use std::fmt;
use std::path::{Path, PathBuf};

/// A sentence that says what is wrong and what would be right; with file and line where it stands in a file.
#[derive(Debug)]
pub struct Error {
    place: Option<(PathBuf, Option<usize>)>,
    message: String,
}

impl Error {
    /// Something that stands in no file.
    pub fn new(message: impl Into<String>) -> Self {
        Self { place: None, message: message.into() }
    }

    /// Something about a file as a whole.
    pub fn in_file(file: &Path, message: impl Into<String>) -> Self {
        Self { place: Some((file.to_owned(), None)), message: message.into() }
    }

    /// Something on a line of a file, of which the first is 1.
    pub fn on_line(file: &Path, line: u64, message: impl Into<String>) -> Self {
        Self { place: Some((file.to_owned(), usize::try_from(line).ok())), message: message.into() }
    }

    /// Something at a byte of a file's text.
    pub fn at(file: &Path, text: &str, byte: usize, message: impl Into<String>) -> Self {
        let line = text.bytes().take(byte).filter(|&byte| byte == b'\n').count() + 1;
        Self { place: Some((file.to_owned(), Some(line))), message: message.into() }
    }

    /// The same, of what the library that parsed a file found.
    pub fn in_plain_words(mut self) -> Self {
        for (theirs, ours) in PLAIN {
            self.message = self.message.replace(theirs, ours);
        }
        self
    }
}

/// Types of Rust, and what one writes for them.
const PLAIN: [(&str, &str); 10] = [
    ("expected usize", "expected a whole number of at least 0"),
    ("expected u64", "expected a whole number of at least 0"),
    ("expected u32", "expected a whole number of at least 0"),
    ("invalid u64", "expected a whole number of at least 0"),
    ("invalid u32", "expected a whole number of at least 0"),
    ("expected struct Archive", "expected a table: [archive]"),
    ("expected sequence start", "expected a list: lines that begin with -"),
    ("expected mapping start", "expected fields, such as  domain: name"),
    ("expected a sequence", "expected a list"),
    ("expected path string", "expected the path of a file, in quotes"),
];

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some((file, Some(line))) => write!(f, "{}:{line}: {}", file.display(), self.message),
            Some((file, None)) => write!(f, "{}: {}", file.display(), self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}
