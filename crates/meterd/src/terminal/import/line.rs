//! Lines of access logs: the common and the combined form, and JSON.

use jiff::Timestamp;
use jiff::fmt::strtime;

/// The form of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// The common log format: host ident user `[time]` "request" status bytes
    Clf,
    /// The same, with referer and agent
    Combined,
    /// An object a line
    Json,
}

/// The fields of a line of the common form, in their order; `request` stands for three.
const FIELDS: &str = "host, ident, user, method, url, protocol, status, bytes, referer, agent";

/// A field that a path is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// Of the common or combined form, by its place.
    Place(usize),
    /// Of an object: its name, and the names within it.
    Name(Vec<String>),
}

/// A line that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Milliseconds since the epoch.
    pub(super) at: i64,
    pub(super) path: Vec<Vec<u8>>,
}

impl Format {
    /// The form of a log that begins with this line.
    pub(super) fn of(line: &[u8]) -> Self {
        match line.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => Self::Json,
            _ if line.iter().filter(|byte| **byte == b'"').count() >= 6 => Self::Combined,
            _ => Self::Clf,
        }
    }

    /// A field by the name that the user gives it.
    ///
    /// # Errors
    /// A sentence that names the fields there are.
    pub(super) fn field(self, name: &str) -> Result<Field, String> {
        if self == Self::Json {
            return Ok(Field::Name(name.split('.').map(str::to_owned).collect()));
        }
        let places = if self == Self::Clf { 8 } else { 10 };
        let names = FIELDS.split(", ").take(places);
        let place = names.clone().position(|field| field == name || (field == "url" && name == "path"));
        place.map(Field::Place).ok_or_else(|| {
            format!("--path {name}: a line of this log has the fields {}", names.collect::<Vec<_>>().join(", "))
        })
    }

    /// Reads a line; `None` if it is not of this form.
    pub(super) fn read(self, line: &[u8], path: &[Field]) -> Option<Line> {
        if self == Self::Json { json(line, path) } else { common(line, path) }
    }
}

fn common(line: &[u8], path: &[Field]) -> Option<Line> {
    let mut rest = line;
    let host = word(&mut rest)?;
    let ident = word(&mut rest)?;
    let user = word(&mut rest)?;
    let time = between(&mut rest, b'[', b']')?;
    let request = between(&mut rest, b'"', b'"')?;
    let status = word(&mut rest)?;
    if status.is_empty() || !status.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let bytes = word(&mut rest).unwrap_or_default();
    let referer = between(&mut rest, b'"', b'"').unwrap_or_default();
    let agent = between(&mut rest, b'"', b'"').unwrap_or_default();
    let mut parts = request.splitn(3, |byte| *byte == b' ');
    let method = parts.next().unwrap_or_default();
    let url = parts.next().unwrap_or_default();
    let url = url.split(|byte| *byte == b'?').next().unwrap_or_default();
    let protocol = parts.next().unwrap_or_default();
    let fields = [host, ident, user, method, url, protocol, status, bytes, referer, agent];
    let path = path.iter().map(|field| match field {
        Field::Place(place) if !fields[*place].is_empty() => fields[*place].to_vec(),
        _ => b"-".to_vec(),
    });
    Some(Line { at: clf_time(time)?, path: path.collect() })
}

/// The next word, which ends at a blank.
fn word<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let start = rest.iter().position(|byte| *byte != b' ')?;
    let line = &rest[start..];
    let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    *rest = &line[end..];
    Some(&line[..end])
}

/// What stands between two marks; a backslash takes its meaning from the byte after it.
fn between<'a>(rest: &mut &'a [u8], open: u8, close: u8) -> Option<&'a [u8]> {
    let start = rest.iter().position(|byte| *byte != b' ')?;
    let line = rest[start..].strip_prefix(&[open])?;
    let mut end = 0;
    while *line.get(end)? != close {
        end += if line[end] == b'\\' { 2 } else { 1 };
    }
    *rest = &line[end + 1..];
    Some(&line[..end])
}

/// `10/Oct/2000:13:55:36 -0700`
fn clf_time(time: &[u8]) -> Option<i64> {
    let time = std::str::from_utf8(time).ok()?;
    let parsed = strtime::parse("%d/%b/%Y:%H:%M:%S %z", time).ok()?;
    Some(parsed.to_timestamp().ok()?.as_millisecond())
}

fn json(line: &[u8], path: &[Field]) -> Option<Line> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    let object = value.as_object()?;
    let names = ["time", "timestamp", "@timestamp", "ts", "at", "date"];
    let at = names.iter().find_map(|name| json_time(object.get(*name)?))?;
    let path = path.iter().map(|field| {
        let Field::Name(names) = field else { return b"-".to_vec() };
        let found = names.iter().try_fold(&value, |value, name| value.get(name));
        match found {
            Some(serde_json::Value::String(text)) if !text.is_empty() => text.clone().into_bytes(),
            Some(value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => value.to_string().into_bytes(),
            _ => b"-".to_vec(),
        }
    });
    Some(Line { at, path: path.collect() })
}

/// RFC 3339, or seconds or milliseconds since the epoch.
fn json_time(value: &serde_json::Value) -> Option<i64> {
    if let Some(text) = value.as_str() {
        let timestamp: Option<Timestamp> = text.parse().ok();
        return timestamp.map(|at| at.as_millisecond()).or_else(|| clf_time(text.as_bytes()));
    }
    let number = value.as_f64().filter(|number| (0.0..1e15).contains(number))?;
    let millis = if number < 1e11 { number * 1000.0 } else { number };
    #[expect(clippy::cast_possible_truncation, reason = "less than 10^15")]
    let millis = millis as i64;
    Some(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMON: &[u8] =
        br#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif?a=1 HTTP/1.0" 200 2326"#;

    fn path(format: Format, line: &[u8], names: &[&str]) -> Option<(i64, Vec<String>)> {
        let fields: Vec<Field> = names.iter().map(|name| format.field(name).expect("a field")).collect();
        let line = format.read(line, &fields)?;
        let path = line.path.into_iter().map(|member| String::from_utf8_lossy(&member).into_owned());
        Some((line.at, path.collect()))
    }

    #[test]
    fn the_common_form() {
        assert_eq!(Format::of(COMMON), Format::Clf);
        let names = ["method", "url", "user", "status", "host", "path"];
        let expected = ["GET", "/apache_pb.gif", "frank", "200", "127.0.0.1", "/apache_pb.gif"];
        let (at, found) = path(Format::Clf, COMMON, &names).expect("a line");
        assert_eq!(at, 971_211_336_000);
        assert_eq!(found, expected);
        assert!(Format::Clf.field("agent").expect_err("no agent").contains("host, ident, user"));
    }

    #[test]
    fn the_combined_form() {
        let line = [COMMON, br#" "http://www.example.com/start.html" "Mozilla/4.08 \"x\" [en] (Win98)""#].concat();
        assert_eq!(Format::of(&line), Format::Combined);
        let (_, found) = path(Format::Combined, &line, &["agent", "referer", "bytes"]).expect("a line");
        assert_eq!(found, [r#"Mozilla/4.08 \"x\" [en] (Win98)"#, "http://www.example.com/start.html", "2326"]);
    }

    #[test]
    fn objects() {
        let line = br#"{"time":"2022-08-09T14:11:17Z","request":{"method":"GET"},"user":7,"nothing":null}"#;
        assert_eq!(Format::of(line), Format::Json);
        let (at, found) = path(Format::Json, line, &["request.method", "user", "nothing", "absent"]).expect("a line");
        assert_eq!(at, 1_660_054_277_000);
        assert_eq!(found, ["GET", "7", "-", "-"]);
        for time in ["1660054277", "1660054277.0", "1660054277000", "\"2022-08-09T16:11:17+02:00\""] {
            let line = format!("{{\"ts\":{time}}}");
            assert_eq!(path(Format::Json, line.as_bytes(), &[]).expect("a line").0, 1_660_054_277_000, "{time}");
        }
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for line in
            ["", "hello", "a b c", "{", "[]", r#"1 - - [yesterday] "GET / HTTP/1.0" 200 1"#, r#"{"time":"soon"}"#]
        {
            for format in [Format::Clf, Format::Combined, Format::Json] {
                assert_eq!(format.read(line.as_bytes(), &[]), None, "{line}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(line: Vec<u8>) {
            for format in [Format::Clf, Format::Combined, Format::Json] {
                let _ = format.read(&line, &[]);
            }
        }
    }
}
