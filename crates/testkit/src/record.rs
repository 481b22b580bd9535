//! The numbers of a run for other programs: lines of tab-separated fields, below header lines about the measurement.

use std::fmt::{Display, Write as _};
use std::path::Path;

/// Lines that are written at the end, if `METER_BENCH_RECORD` names a folder.
#[derive(Default)]
pub struct Record(String);

impl Record {
    /// A header that holds for all lines.
    pub fn header(&mut self, name: &str, value: impl Display) {
        writeln!(self.0, "# {name}: {value}").expect("a string takes what it is given");
    }

    pub fn line(&mut self, fields: &[&dyn Display]) {
        let fields: Vec<_> = fields.iter().map(ToString::to_string).collect();
        writeln!(self.0, "{}", fields.join("\t")).expect("a string takes what it is given");
    }

    /// # Panics
    /// If the file can't be written.
    pub fn save(&self, file: &str) {
        if let Some(folder) = std::env::var_os("METER_BENCH_RECORD") {
            std::fs::create_dir_all(&folder).expect("METER_BENCH_RECORD: a folder");
            let path = Path::new(&folder).join(file);
            std::fs::write(&path, &self.0).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            println!("\nrecorded  {}", path.display());
        }
    }
}
