//! What the commands for the terminal print.

use std::fmt;
use std::io::{ErrorKind, Write as _};
use std::process::exit;

/// The exit code of a program whose reader has gone, as that of one that SIGPIPE ends.
const READER_GONE: i32 = 141;

/// Prints text. Where it can't be printed the program ends: quietly, if nobody reads it any more.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit(READER_GONE),
        Err(error) => {
            eprintln!("meterd: standard output: {error}");
            exit(1);
        }
    }
}

/// Prints a line.
macro_rules! say {
    ($($arguments:tt)*) => {
        $crate::say::print(format_args!("{}\n", format_args!($($arguments)*)))
    };
}
pub(crate) use say;
