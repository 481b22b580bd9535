//! Descriptors as a query of HTTP has them: `name=value&country=de/user=u`.

use super::request::Descriptor;
use super::rules::Domain;
use crate::name::from_query;

/// A parameter that means something else than a descriptor.
pub type Reserved = (&'static str, Option<String>);

/// Reads a query; each parameter is a descriptor, but for those that are reserved, which are filled in.
///
/// A value that goes on with `/name=` is nested only where the rules nest that name there, so that a value with a slash,
/// which a client may have chosen, can't change which rule it meets.
///
/// # Errors
/// When a reserved parameter is given twice, or a parameter has no name.
pub fn parse(domain: Option<&Domain>, query: &str, reserved: &mut [Reserved]) -> Result<Vec<Descriptor>, String> {
    let mut descriptors = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name);
        if name.is_empty() {
            return Err("a parameter has no name: write  name=value".to_owned());
        }
        if let Some((name, slot)) = reserved.iter_mut().find(|(reserved, _)| *reserved == name) {
            if slot.replace(decoded(value)).is_some() {
                return Err(format!("\"{name}\" is given twice"));
            }
            continue;
        }
        descriptors.push(Descriptor { entries: entries(domain, name, value), ..Descriptor::default() });
    }
    Ok(descriptors)
}

fn entries(domain: Option<&Domain>, name: String, value: &str) -> Vec<(String, String)> {
    let mut entries = vec![(name, String::new())];
    let mut raw = String::new();
    for (place, part) in value.split('/').enumerate() {
        if place == 0 {
            raw.push_str(part);
            continue;
        }
        let last = entries.len() - 1;
        entries[last].1 = decoded(&raw);
        let inner = part.split_once('=').map(|(name, value)| (decoded(name), value));
        match inner.filter(|(name, _)| domain.is_some_and(|domain| domain.nests(&entries, name))) {
            Some((name, value)) => {
                entries.push((name, String::new()));
                raw = value.to_owned();
            }
            None => {
                raw.push('/');
                raw.push_str(part);
            }
        }
    }
    let last = entries.len() - 1;
    entries[last].1 = decoded(&raw);
    entries
}

fn decoded(text: &str) -> String {
    let bytes = from_query(text);
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
