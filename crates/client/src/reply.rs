//! How replies are read.

use redis::{ParsingError, Value};

/// The elements of an array or a set; of a map, its keys and values in turn.
pub(crate) fn elements(value: Value) -> Result<Vec<Value>, ParsingError> {
    match value {
        Value::Array(values) | Value::Set(values) => Ok(values),
        Value::Map(pairs) => Ok(pairs.into_iter().flat_map(|(name, value)| [name, value]).collect()),
        other => Err(unexpected("an array", &other)),
    }
}

/// The elements of an array of `N`.
pub(crate) fn exactly<const N: usize>(value: Value) -> Result<[Value; N], ParsingError> {
    <[Value; N]>::try_from(elements(value)?).map_err(|values| wrong(format!("{} elements, not {N}", values.len())))
}

/// An integer, as RESP2, RESP3 and strings of digits have it.
pub(crate) fn int(value: &Value) -> Result<i64, ParsingError> {
    let text = match value {
        Value::Int(n) => return Ok(*n),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text.as_str()),
        _ => None,
    };
    text.and_then(|text| text.parse().ok()).ok_or_else(|| unexpected("an integer", value))
}

/// An integer that is not negative.
pub(crate) fn count(value: &Value) -> Result<u64, ParsingError> {
    u64::try_from(int(value)?).map_err(|_| unexpected("an integer from 0", value))
}

/// The bytes of a string; `None` for nil.
pub(crate) fn bytes(value: Value) -> Result<Option<Vec<u8>>, ParsingError> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) => Ok(Some(text.into_bytes())),
        Value::VerbatimString { text, .. } => Ok(Some(text.into_bytes())),
        Value::Int(n) => Ok(Some(n.to_string().into_bytes())),
        other => Err(unexpected("a string", &other)),
    }
}

/// A text that is there.
pub(crate) fn text(value: Value) -> Result<String, ParsingError> {
    let bytes = bytes(value)?.ok_or_else(|| wrong("nil, where a string was expected".to_owned()))?;
    String::from_utf8(bytes).map_err(|_| wrong("a string that is not UTF-8".to_owned()))
}

fn unexpected(what: &str, value: &Value) -> ParsingError {
    wrong(format!("{value:?}, where {what} was expected"))
}

fn wrong(detail: String) -> ParsingError {
    ParsingError::from(detail)
}
