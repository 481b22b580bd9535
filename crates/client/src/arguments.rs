//! How arguments are written.

use std::time::Duration;

use redis::Cmd;

/// Bytes of a key, a member or an id.
pub(crate) type Name = Vec<u8>;

pub(crate) fn name(bytes: impl AsRef<[u8]>) -> Name {
    bytes.as_ref().to_owned()
}

/// A period as the commands read it: seconds, with at most nine digits after the point.
pub(crate) fn seconds(period: Duration) -> String {
    match period.subsec_nanos() {
        0 => period.as_secs().to_string(),
        nanos => format!("{}.{nanos:09}", period.as_secs()).trim_end_matches('0').to_owned(),
    }
}

/// Adds `keyword value`.
pub(crate) fn option(command: &mut Cmd, keyword: &str, value: impl redis::ToSingleRedisArg) {
    command.arg(keyword).arg(value);
}

/// Adds `PATH depth member …`.
pub(crate) fn path(command: &mut Cmd, members: &[Name]) {
    command.arg("PATH").arg(members.len());
    for member in members {
        command.arg(member.as_slice());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_decimal_seconds() {
        for (period, text) in [
            (Duration::from_secs(3600), "3600"),
            (Duration::from_millis(250), "0.25"),
            (Duration::from_nanos(1_000_000_001), "1.000000001"),
        ] {
            assert_eq!(seconds(period), text);
        }
    }
}
