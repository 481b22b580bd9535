//! Several limits of any kind, taken all or none in one step.

use std::sync::LazyLock;

use redis::{Cmd, FromRedisValue, ParsingError, Script, Value, cmd};
use redis_meter_client::Verdict;

use super::plan::Take;

/// Looks first, and takes only if each limit that may refuse passes. What it is told of each limit: how many words
/// follow, whether it may refuse (`1`), must (`2`: a refusal starts its block) or may not (`0`), and its command without the
/// key. It returns what it did (0 refused, 1 taken, 2 taken in part), and each verdict.
const TEXT: &str = "
local limits, at = {}, 1
for i = 1, #KEYS do
    local words = tonumber(ARGV[at])
    limits[i] = { role = ARGV[at + 1], name = ARGV[at + 2], rest = { unpack(ARGV, at + 3, at + words) } }
    at = at + words + 1
end
local function call(i, suffix)
    return redis.call(limits[i].name .. suffix, KEYS[i], unpack(limits[i].rest))
end
local verdicts, passes = {}, true
for i, limit in ipairs(limits) do
    local is_dry = string.sub(limit.name, -3) == '_RO'
    verdicts[i] = call(i, is_dry and '' or '_RO')
    passes = passes and (verdicts[i][1] == 0 or limit.role == '0')
end
if not passes then
    for i, limit in ipairs(limits) do
        if limit.role == '2' and verdicts[i][1] == 1 then verdicts[i] = call(i, '') end
    end
    return { 0, verdicts }
end
local done = 1
for i, limit in ipairs(limits) do
    verdicts[i] = call(i, '')
    if verdicts[i][1] == 1 and limit.role ~= '0' then done = 2 end
end
return { done, verdicts }
";

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(TEXT));

/// What the script did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    Refused,
    Taken,
    /// The server's clock stepped back in between: what was taken must be refunded.
    InPart,
}

pub(super) struct Outcome {
    pub(super) done: Done,
    pub(super) verdicts: Vec<Verdict>,
}

impl FromRedisValue for Outcome {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (done, verdicts): (u8, Vec<Verdict>) = redis::from_redis_value(value)?;
        let done = match done {
            0 => Done::Refused,
            1 => Done::Taken,
            _ => Done::InPart,
        };
        Ok(Self { done, verdicts })
    }
}

/// The call of the script that the server has already, and the one that brings it.
pub(super) fn calls(takes: &[&Take], holder: &str) -> [Cmd; 2] {
    let mut known = cmd("EVALSHA");
    known.arg(SCRIPT.get_hash());
    let mut unknown = cmd("EVAL");
    unknown.arg(TEXT);
    [known, unknown].map(|mut call| {
        call.arg(takes.len());
        for take in takes {
            call.arg(take.key.as_slice());
        }
        for take in takes {
            add(&mut call, take, holder);
        }
        call
    })
}

fn add(call: &mut Cmd, take: &Take, holder: &str) {
    let command = take.limit.command(&take.key, take.quantity, holder, false);
    let words: Vec<&[u8]> = command
        .args_iter()
        .filter_map(|word| match word {
            redis::Arg::Simple(word) => Some(word),
            _ => None,
        })
        .collect();
    let role = match take.is_enforced {
        false => "0",
        true if take.limit.blocks() => "2",
        true => "1",
    };
    call.arg(words.len()).arg(role).arg(words[0]);
    for word in &words[2..] {
        call.arg(*word);
    }
}
