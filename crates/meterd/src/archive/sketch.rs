//! The server's HyperLogLogs: read, merged, counted and written in its own form, so that what stands in SQL can be
//! `SET` back into a server and counted there.
//!
//! A sketch has 16384 registers of 6 bits. The form is that of the server's strings: a header of 16 bytes (`HYLL`, the
//! encoding, three bytes unused, the count last computed) and the registers, either packed (dense) or as runs (sparse).
//! The count is Ertl's improved estimator (<https://arxiv.org/abs/1702.01284>), as servers since Redis 4.0 compute it.

use std::fmt;

/// Registers of a sketch.
const REGISTERS: usize = 1 << 14;
/// Bits of a register.
const BITS: usize = 6;
/// The highest value that a register can have: a hash of 64 bits less the 14 that choose the register, and one.
const HIGHEST: u8 = 64 - 14 + 1;
/// The highest value that the sparse encoding can write.
const HIGHEST_SPARSE: u8 = 32;
const HEADER: usize = 16;
const MAGIC: &[u8] = b"HYLL";
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
/// In the last byte of the stored count: it has to be computed anew.
const STALE: u8 = 0x80;
/// 1 / (2 ln 2), the limit of the estimator's constant.
const ALPHA: f64 = 0.721_347_520_444_481_7;

/// A set of ids of which only the number is known, with a standard error of 0.81 %.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sketch {
    registers: Box<[u8; REGISTERS]>,
}

/// Bytes that are no HyperLogLog of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoSketch;

impl fmt::Display for NoSketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("these bytes are no HyperLogLog")
    }
}

impl Default for Sketch {
    fn default() -> Self {
        Self { registers: Box::new([0; REGISTERS]) }
    }
}

impl fmt::Debug for Sketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sketch({})", self.count())
    }
}

impl Sketch {
    /// Reads what `GET` returns of a HyperLogLog.
    ///
    /// # Errors
    /// [`NoSketch`] for anything else.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, NoSketch> {
        let (header, body) = bytes.split_at_checked(HEADER).ok_or(NoSketch)?;
        if !header.starts_with(MAGIC) {
            return Err(NoSketch);
        }
        match header[MAGIC.len()] {
            DENSE => Self::read_dense(body),
            SPARSE => Self::read_sparse(body),
            _ => Err(NoSketch),
        }
    }

    fn read_dense(body: &[u8]) -> Result<Self, NoSketch> {
        if body.len() != REGISTERS * BITS / 8 {
            return Err(NoSketch);
        }
        let mut sketch = Self::default();
        // Four registers are three bytes, the lowest bits first.
        for (four, three) in sketch.registers.chunks_exact_mut(4).zip(body.chunks_exact(3)) {
            let bits = u32::from_le_bytes([three[0], three[1], three[2], 0]);
            for (place, register) in four.iter_mut().enumerate() {
                *register = (bits >> (place * BITS) & 0x3f) as u8;
                if *register > HIGHEST {
                    return Err(NoSketch);
                }
            }
        }
        Ok(sketch)
    }

    fn read_sparse(mut body: &[u8]) -> Result<Self, NoSketch> {
        let mut sketch = Self::default();
        let mut at = 0;
        while let [first, rest @ ..] = body {
            let (len, value, rest) = match first >> 6 {
                0 => (usize::from(first & 0x3f) + 1, 0, rest),
                1 => {
                    let [second, rest @ ..] = rest else { return Err(NoSketch) };
                    (usize::from(first & 0x3f) << 8 | usize::from(*second), 0, rest)
                }
                _ => (usize::from(first & 3) + 1, (first >> 2 & 0x1f) + 1, rest),
            };
            let len = if first >> 6 == 1 { len + 1 } else { len };
            sketch.registers.get_mut(at..at + len).ok_or(NoSketch)?.fill(value);
            at += len;
            body = rest;
        }
        if at == REGISTERS { Ok(sketch) } else { Err(NoSketch) }
    }

    /// Adds the ids of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, others) in self.registers.iter_mut().zip(other.registers.iter()) {
            *mine = (*mine).max(*others);
        }
    }

    /// The estimated number of ids, as `PFCOUNT` returns it.
    pub(crate) fn count(&self) -> u64 {
        let mut histogram = [0u32; 64];
        for &register in self.registers.iter() {
            histogram[usize::from(register)] += 1;
        }
        #[expect(clippy::cast_precision_loss, reason = "2^14")]
        let m = REGISTERS as f64;
        let mut z = m * tau((m - f64::from(histogram[usize::from(HIGHEST)])) / m);
        for &n in histogram[1..usize::from(HIGHEST)].iter().rev() {
            z = (z + f64::from(n)) * 0.5;
        }
        z += m * sigma(f64::from(histogram[0]) / m);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; saturates")]
        let count = (ALPHA * m * m / z).round() as u64;
        count
    }

    /// Its shorter form, to be stored or given to a server.
    pub(crate) fn write(&self) -> Vec<u8> {
        let most = HEADER + REGISTERS * BITS / 8;
        let sparse = self.write_sparse(most);
        let mut bytes = sparse.unwrap_or_else(|| self.write_dense());
        bytes[HEADER - 1] = STALE;
        bytes
    }

    fn header(encoding: u8) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(encoding);
        bytes.resize(HEADER, 0);
        bytes
    }

    fn write_dense(&self) -> Vec<u8> {
        let mut bytes = Self::header(DENSE);
        for four in self.registers.chunks_exact(4) {
            let bits = four.iter().rev().fold(0u32, |bits, &register| bits << BITS | u32::from(register));
            bytes.extend(&bits.to_le_bytes()[..3]);
        }
        bytes
    }

    /// As runs of equal registers; `None` if that takes `most` bytes or more, or can't be.
    fn write_sparse(&self, most: usize) -> Option<Vec<u8>> {
        let mut bytes = Self::header(SPARSE);
        for run in self.registers.chunk_by(|a, b| a == b) {
            let value = run[0];
            if value > HIGHEST_SPARSE || bytes.len() >= most {
                return None;
            }
            match (value, run.len()) {
                (0, len @ 1..=64) => bytes.push(u8::try_from(len - 1).ok()?),
                (0, len) => {
                    let len = u16::try_from(len - 1).ok()? | 1 << 14;
                    bytes.extend(len.to_be_bytes());
                }
                (value, len) => {
                    for len in std::iter::repeat_n(4, len / 4).chain((len % 4 > 0).then_some(len % 4)) {
                        bytes.push(0x80 | (value - 1) << 2 | u8::try_from(len - 1).ok()?);
                    }
                }
            }
        }
        (bytes.len() < most).then_some(bytes)
    }
}

/// The paper's τ: what registers at their highest value add.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        y *= 0.5;
        let before = z;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// The paper's σ: what empty registers add.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sketches() -> impl Strategy<Value = Sketch> {
        // Few registers, many, and runs of all lengths.
        let runs = prop::collection::vec((0u8..=HIGHEST, 1usize..5000), 0..40);
        (runs, any::<bool>()).prop_map(|(runs, low)| {
            let mut sketch = Sketch::default();
            let mut at = 0;
            for (value, len) in runs {
                let end = (at + len).min(REGISTERS);
                sketch.registers[at..end].fill(if low { value % HIGHEST_SPARSE } else { value });
                at = end;
            }
            sketch
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(sketch in sketches()) {
            let bytes = sketch.write();
            prop_assert!(bytes.len() <= HEADER + REGISTERS * BITS / 8);
            prop_assert_eq!(&Sketch::read(&bytes).expect("a sketch"), &sketch);
            prop_assert_eq!(&Sketch::read(&sketch.write_dense()).expect("a sketch"), &sketch);
        }

        #[test]
        fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..600), encoding in 0u8..3) {
            let mut bytes = Sketch::header(encoding);
            bytes.extend(body);
            let _ = Sketch::read(&bytes);
            let _ = Sketch::read(&bytes[..bytes.len().min(9)]);
        }

        #[test]
        fn merging_is_in_any_order_and_more_than_once(one in sketches(), two in sketches()) {
            let mut a = one.clone();
            a.merge(&two);
            let mut b = two.clone();
            b.merge(&one);
            b.merge(&one);
            prop_assert_eq!(a, b);
        }
    }

    #[test]
    fn no_id_counts_zero() {
        assert_eq!(Sketch::default().count(), 0);
        assert_eq!(Sketch::read(b"HYLL"), Err(NoSketch));
        assert_eq!(Sketch::read(b""), Err(NoSketch));
    }
}
