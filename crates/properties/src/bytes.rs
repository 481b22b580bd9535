//! Numbers from arbitrary bytes. When the bytes have ended, everything is zero.

/// The rest of the input.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Bytes<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    /// The next eight bytes as an integer of any size and sign.
    pub(crate) fn any(&mut self) -> i64 {
        i64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A magnitude of a byte and a mantissa of two: small and large numbers are equally likely. At most `most`.
    pub(crate) fn natural(&mut self, most: i64) -> i64 {
        let shift = self.byte() % 48;
        let mantissa = i64::from(u16::from_le_bytes([self.byte(), self.byte()]));
        (mantissa << shift).min(most)
    }

    /// The same, at least 1.
    pub(crate) fn positive(&mut self, most: i64) -> i64 {
        self.natural(most).max(1)
    }

    /// A quantity as a client may send it: mostly small, of either sign, sometimes anything.
    pub(crate) fn quantity(&mut self) -> i64 {
        match self.byte() {
            127 => self.any(),
            small => i64::from(small.cast_signed()),
        }
    }
}
