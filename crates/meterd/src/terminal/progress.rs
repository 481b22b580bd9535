//! How far an archiver is: a bar where somebody looks at a terminal, and nothing elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::archive::Progress;

/// A bar on a terminal.
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    is_shown: bool,
    rows: u64,
}

impl Bar {
    pub(super) fn new() -> Self {
        Self { bar: None, is_shown: std::io::stderr().is_terminal(), rows: 0 }
    }
}

/// A bar of so many steps, on a terminal; the template is indicatif's.
pub(super) fn bar(steps: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(steps).with_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

impl Progress for Bar {
    fn begin(&mut self, meter: &str, keys: u64) {
        self.rows = 0;
        if self.is_shown {
            let bar = bar(keys, "{prefix} {wide_bar:.cyan} {pos}/{len} keys, {msg} rows, {elapsed}, {eta} left");
            bar.set_prefix(meter.to_owned());
            bar.set_message("0");
            self.bar = Some(bar);
        }
    }

    fn add(&mut self, keys: u64, rows: u64) {
        self.rows += rows;
        if let Some(bar) = &self.bar {
            bar.inc(keys);
            bar.set_message(self.rows.to_string());
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
