//! What is told of the measurements: tables to read, and, for `scripts/draw-performance`, a file of all medians.

use crate::jobs::Job;
use crate::measure::{RATE_DEPTHS, Sample};
use testkit::record::Record;
use testkit::spread::Spread;

/// What compares two jobs, by their names: this one in units of that one.
pub(crate) type Pair = (&'static str, &'static str);

/// Prints what was measured on, or how, and records it.
pub(crate) fn head(name: &str, value: &str, record: &mut Record) {
    println!("{name:10}{value}");
    record.header(name, value);
}

/// Records of a group what was measured (a job, or `this / that`), the measure, and the median, the least and the most.
pub(crate) fn add(group: &str, what: &str, measure: &str, Spread { median, min, max }: Spread, record: &mut Record) {
    let [median, min, max] = [median, min, max].map(|number| format!("{number:.4}"));
    record.line(&[&group, &what, &measure, &median, &min, &max]);
}

pub(crate) fn costs(group: &str, jobs: &[Job], samples: &[Vec<Sample>], record: &mut Record) {
    println!("\n{:40}{:>10}{:>19}", "microseconds a call", "median", "min - max");
    for (job, samples) in jobs.iter().zip(samples) {
        let spread = Spread::of(samples.iter().map(|sample| sample.cost));
        let Spread { median, min, max } = spread;
        println!("{:40}{median:10.3}{:>19}", job.name, format!("{min:.3} - {max:.3}"));
        add(group, job.name, "usec", spread, record);
    }
}

pub(crate) fn rates(group: &str, jobs: &[Job], samples: &[Vec<Sample>], record: &mut Record) {
    print!("\n{:40}", "thousand calls a second");
    for depth in RATE_DEPTHS {
        print!("{:>10}{:>17}", format!("depth {depth}"), "min - max");
    }
    println!();
    for (job, samples) in jobs.iter().zip(samples) {
        print!("{:40}", job.name);
        for (i, depth) in RATE_DEPTHS.into_iter().enumerate() {
            let spread = Spread::of(samples.iter().map(|sample| sample.rates[i] / 1e3));
            let Spread { median, min, max } = spread;
            print!("{median:10.1}{:>17}", format!("{min:.0} - {max:.0}"));
            add(group, job.name, &format!("thousand/s at depth {depth}"), spread, record);
        }
        println!();
    }
}

/// The ratios of two jobs in each round, of a measure with this name.
pub(crate) fn ratios<T>(
    group: &str,
    (measure, title): (&str, &str),
    pairs: &[Pair],
    samples_of: impl Fn(&str) -> Option<Vec<T>>,
    number: impl Fn(&T) -> f64,
    record: &mut Record,
) {
    println!("\n{title:71}{:>8}{:>17}", "median", "min - max");
    for &(ours, theirs) in pairs {
        // A peer may not be there, nor a command that is newer than the server.
        if let (Some(a), Some(b)) = (samples_of(ours), samples_of(theirs)) {
            let spread = Spread::of(a.iter().zip(&b).map(|(a, b)| number(a) / number(b)));
            let (Spread { median, min, max }, pair) = (spread, format!("{ours} / {theirs}"));
            println!("{pair:71}{median:8.2}{:>17}", format!("{min:.2} - {max:.2}"));
            add(group, &pair, &format!("ratio of {measure}"), spread, record);
        }
    }
}
