//! The inputs of the fuzz targets, replayed: an input that has once broken a property does not break it again.

use std::fs;
use std::path::Path;

use redis_meter_properties::ALL;

fn fuzz() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz"))
}

/// The names in a folder, sorted, without their extensions.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn every_input_of_the_corpus_keeps_its_property() {
    for (name, property) in ALL {
        let folder = fuzz().join("corpus").join(name);
        let mut inputs = 0;
        for entry in fs::read_dir(&folder).expect("a folder for each property") {
            let path = entry.expect("an entry").path();
            let input = fs::read(&path).expect("an input");
            let outcome = std::panic::catch_unwind(|| property(&input));
            assert!(outcome.is_ok(), "{} breaks the property {name}", path.display());
            inputs += 1;
        }
        assert!(inputs > 0, "{} is empty", folder.display());
    }
}

#[test]
fn every_property_has_a_fuzz_target_and_every_target_a_property() {
    let properties: Vec<String> = ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names_in(&fuzz().join("fuzz_targets")), properties);
    assert_eq!(names_in(&fuzz().join("corpus")), properties);
}
