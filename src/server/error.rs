//! The errors of commands.

use std::ffi::{CStr, CString};
use std::fmt::{self, Display};

use super::api::api;
use super::context::Context;

const WRONG_TYPE: &CStr = c"WRONGTYPE Operation against a key holding the wrong kind of value";

/// Why a command has not run. Nothing has been changed.
#[derive(Debug)]
pub(crate) enum Error {
    /// Too few or too many arguments: the server's standard text.
    Arity,
    /// A key of another type: the server's standard text.
    WrongType,
    /// The client's user may no longer run the call for which the client is blocked.
    NoPermission,
    /// A key that the command needs may be on another node while its slot moves.
    TryAgain,
    /// The slot of the key for which the client is blocked is moving to another node, or has moved.
    SlotMoved,
    /// One plain sentence that names the argument and the remedy; `ERR ` is put before it.
    Refused(String),
}

impl Error {
    /// An error with this sentence.
    pub(crate) fn refused(sentence: impl Display) -> Self {
        Self::Refused(sentence.to_string())
    }

    /// The same error, of a call that names several keys: `place` names the one at fault.
    pub(crate) fn of(self, place: impl Display) -> Self {
        match self {
            Self::Refused(sentence) => Self::Refused(format!("{place}: {sentence}")),
            other => other,
        }
    }

    pub(super) fn reply(&self, ctx: Context<'_>) {
        match self {
            Self::Arity => {
                let wrong_arity = api!(RedisModule_WrongArity);
                // SAFETY: the context is that of the running command.
                unsafe { wrong_arity(ctx.raw()) };
            }
            Self::WrongType => reply_with_error(ctx, WRONG_TYPE),
            Self::NoPermission => reply_with_error(
                ctx,
                c"NOPERM the rights to this command or its keys were taken away while the client waited",
            ),
            Self::TryAgain => reply_with_error(
                ctx,
                c"TRYAGAIN part of this meter may be on another node while its slot moves, try again",
            ),
            Self::SlotMoved => reply_with_error(
                ctx,
                c"TRYAGAIN the slot of the key has begun to move to another node while the client was blocked, try again",
            ),
            Self::Refused(sentence) => {
                // A line break would end the reply early; a NUL would end the C string.
                let line: String = sentence.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                let text = CString::new(format!("ERR {line}")).unwrap_or_default();
                reply_with_error(ctx, &text);
            }
        }
    }
}

fn reply_with_error(ctx: Context<'_>, text: &CStr) {
    let reply = api!(RedisModule_ReplyWithError);
    // SAFETY: the context is that of the running command; the text is a C string, which the server copies.
    unsafe { reply(ctx.raw(), text.as_ptr()) };
}

/// A client's bytes in an error: printable ASCII unchanged, the rest escaped, shortened.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 40;
        let shown = &self.0[..self.0.len().min(LONGEST)];
        let ellipsis = if self.0.len() > LONGEST { "..." } else { "" };
        write!(out, "'{}{ellipsis}'", shown.escape_ascii())
    }
}
