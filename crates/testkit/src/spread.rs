//! The summary of a number that was measured several times.

/// The median and the extremes.
#[derive(Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// # Panics
    /// If there are none.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut samples: Vec<f64> = samples.into_iter().collect();
        samples.sort_by(f64::total_cmp);
        let (below, above) = (samples[(samples.len() - 1) / 2], samples[samples.len() / 2]);
        Self { median: f64::midpoint(below, above), min: samples[0], max: samples[samples.len() - 1] }
    }
}
