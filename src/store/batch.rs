//! The open batch: days that were closed and wait to be read and acknowledged. Its keys are those of the days, renamed to
//! `K:sealed:<id>:…`; the hash `K:batch` has its `id` and, in the fields `1` to n, the names that they came from,
//! without `K:` before them.

use crate::server::{Any, Constant, Context, Effect, Error, Hash, Key, OwnedStr, Str};

use super::held;
use super::meter::Meter;

static ID: Constant = Constant::new("id");

/// Bytes of an id: 128 bits in hexadecimal digits.
const ID_LEN: usize = 32;

/// A batch.
pub(crate) struct Batch {
    pub(crate) id: Vec<u8>,
    /// The names that its keys came from, without `K:` before them.
    from: Vec<Vec<u8>>,
}

impl Batch {
    /// The open batch, if there is one.
    ///
    /// # Errors
    /// `K:batch` is no hash, or one that is no batch, or [`Error::TryAgain`].
    pub(crate) fn find(ctx: Context<'_>, meter: Meter<'_>) -> Result<Option<Self>, Error> {
        let name = meter.batch_key();
        let hash = meter.read::<Hash>(ctx, &name)?;
        if !hash.exists() {
            return Ok(None);
        }
        let id = hash.get(ID.get()).filter(|id| id.len() == ID_LEN).ok_or_else(no_batch)?.to_vec();
        let mut from = Vec::new();
        while from.len() + 1 < hash.len() {
            let field = field(from.len());
            from.push(hash.get(field.as_str()).ok_or_else(no_batch)?.to_vec());
        }
        Ok(Some(Self { id, from }))
    }

    /// A new batch of the keys that have these names.
    pub(crate) fn new(ctx: Context<'_>, from: Vec<Vec<u8>>) -> Self {
        Self { id: ctx.random_hex::<ID_LEN>().to_vec(), from }
    }

    /// The names of its keys.
    pub(crate) fn keys(&self, meter: Meter<'_>) -> Vec<OwnedStr> {
        self.from.iter().map(|rest| meter.sealed_key(&self.id, rest)).collect()
    }

    /// Closes it: its keys become what the batch says, and expire no more.
    pub(crate) fn seal(&self, ctx: Context<'_>, meter: Meter<'_>) {
        for (rest, sealed) in self.from.iter().zip(self.keys(meter)) {
            let name = meter.rest_key(rest);
            if let Ok(key) = Key::<Any>::write(ctx, name.as_str()) {
                key.rename(sealed.as_str());
            }
            if let Ok(key) = Key::<Any>::write(ctx, sealed.as_str()) {
                let expires = key.expiry().is_some();
                key.commit(&[expires.then_some(Effect::Persist)]);
            }
        }
        let fields: Vec<OwnedStr> = (0..self.from.len()).map(field).collect();
        let values: Vec<OwnedStr> = self.from.iter().map(|rest| OwnedStr::new(rest)).collect();
        let id = OwnedStr::new(&self.id);
        let mut pairs: Vec<(Str<'_>, Str<'_>)> = vec![(ID.get(), id.as_str())];
        pairs.extend(fields.iter().map(OwnedStr::as_str).zip(values.iter().map(OwnedStr::as_str)));
        let name = meter.batch_key();
        if let Ok(hash) = Key::<Hash>::write(ctx, name.as_str()) {
            hash.commit(&[Some(Effect::HashSet(&pairs))]);
        }
    }

    /// Deletes it and its keys; how many of these there were.
    ///
    /// # Errors
    /// [`Error::TryAgain`]; nothing has been changed.
    pub(crate) fn delete(self, ctx: Context<'_>, meter: Meter<'_>) -> Result<usize, Error> {
        let keys = self.keys(meter);
        for name in &keys {
            meter.read::<Any>(ctx, name)?;
        }
        let deleted = keys.iter().filter(|name| held::delete(ctx, name)).count();
        held::delete(ctx, &meter.batch_key());
        Ok(deleted)
    }
}

/// The field of a key, counted from 0.
fn field(place: usize) -> OwnedStr {
    OwnedStr::from_integer(i64::try_from(place + 1).unwrap_or(i64::MAX))
}

fn no_batch() -> Error {
    Error::refused("the batch key of that meter holds a hash that is no batch; use another key, or DEL it")
}
