//! A ranking in parts: what is lost when only the head of each part is read.

use testkit::Random;
use testkit::record::Record;

const MEMBERS: usize = 20_000;
const HITS: usize = 400_000;
const PARTS: usize = 16;
/// How many of the highest are asked for.
const TOP: usize = 20;
/// How many are read of each part.
const READ: [usize; 5] = [20, 50, 100, 500, 2_000];

/// Counts members that are hit the less often the higher their number (Zipf's law), each time in a part by chance, and
/// merges the heads of the parts.
///
/// # Panics
/// If a member that is in no head has more hits than the last ones of all heads together.
pub(crate) fn run(seed: u64, record: &mut Record) {
    let mut random = Random::new(seed);
    let mut weights: Vec<f64> = Vec::with_capacity(MEMBERS);
    for member in 0..MEMBERS {
        weights.push(weights.last().unwrap_or(&0.0) + 1.0 / (member + 1) as f64);
    }
    let all = weights[MEMBERS - 1];
    let mut parts = vec![vec![0u64; MEMBERS]; PARTS];
    for _ in 0..HITS {
        let point = crate::share(&mut random) * all;
        let part = random.below(PARTS);
        parts[part][weights.partition_point(|&weight| weight <= point)] += 1;
    }
    let whole: Vec<u64> = (0..MEMBERS).map(|member| parts.iter().map(|part| part[member]).sum()).collect();
    assert_eq!(whole.iter().sum::<u64>(), HITS as u64, "counts of parts add up");

    println!(
        "\nA ranking of {MEMBERS} members in {PARTS} parts, {HITS} hits: the first {TOP}, from the first m of each part"
    );
    println!("{:>8}{:>14}{:>34}{:>12}", "m", "true ones", "hits of the highest in no head", "its bound");
    let order = |counts: &[u64]| {
        let mut order: Vec<usize> = (0..MEMBERS).collect();
        order.sort_by_key(|&member| std::cmp::Reverse(counts[member]));
        order
    };
    let (true_order, orders) = (order(&whole), parts.iter().map(|part| order(part)).collect::<Vec<_>>());
    for read in READ {
        let mut merged = vec![0; MEMBERS];
        let mut bound = 0;
        for (part, order) in parts.iter().zip(&orders) {
            order[..read].iter().for_each(|&member| merged[member] += part[member]);
            bound += part[order[read - 1]];
        }
        let unseen = (0..MEMBERS).filter(|&member| merged[member] == 0).map(|member| whole[member]).max().unwrap_or(0);
        assert!(unseen <= bound, "{unseen} hits of a member that is in no head, and at most {bound} are possible");
        let merged_order = order(&merged);
        let found = true_order[..TOP].iter().filter(|member| merged_order[..TOP].contains(member)).count();
        println!("{read:8}{:>14}{unseen:34}{bound:12}", format!("{found} of {TOP}"));
        record.line(&[&"ranking", &read, &PARTS, &"-", &bound, &unseen, &found]);
    }
}
