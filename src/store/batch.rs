//! The open batch: days that were closed and wait to be read and acknowledged. Its keys are those of the days, renamed to
//! `K:sealed:<id>:…`; the hash `K:batch` has its `id` and, in the fields `1` to n, the names that they came from,
//! without `K:` before them.

use crate::server::{
    Any, Change, Constant, Context, CoreCommand, Effect, Error, Fields, Hash, Key, OwnedStr, Str, Writable, effects,
};

use super::meter::Meter;
use super::walk;

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
        let no_batch = || super::foreign(name.as_str(), "a hash", "METER.SEAL");
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

    /// The names of its keys, of the batch itself and of its fields.
    pub(crate) fn names(&self, meter: Meter<'_>) -> Names {
        Names {
            batch: meter.batch_key(),
            from: self.from.iter().map(|rest| meter.rest_key(rest)).collect(),
            keys: self.from.iter().map(|rest| meter.sealed_key(&self.id, rest)).collect(),
            fields: (0..self.from.len()).map(field).collect(),
        }
    }

    /// Writes it down, and takes the expiries off its keys, which were renamed.
    pub(crate) fn commit<'a>(&self, ctx: Context<'a>, names: &'a Names) -> Vec<Change<'a>> {
        let mut fields: Vec<(Str<'_>, OwnedStr)> = vec![(ID.get(), OwnedStr::new(&self.id))];
        let rest = names.fields.iter().zip(&self.from);
        fields.extend(rest.map(|(field, rest)| (field.as_str(), OwnedStr::new(rest))));
        let hash = Key::<Hash, Writable>::open(ctx, names.batch.as_str());
        let hash = hash.ok().and_then(|hash| hash.change(effects([Some(Effect::HashSet(Fields::Many(fields)))])));
        let persisted = names.keys.iter().filter_map(|key| walk::expire(ctx, key, None));
        hash.into_iter().chain(persisted).collect()
    }
}

/// The names that belong to a batch.
pub(crate) struct Names {
    batch: OwnedStr,
    /// What its keys were named before.
    from: Vec<OwnedStr>,
    pub(crate) keys: Vec<OwnedStr>,
    fields: Vec<OwnedStr>,
}

impl Names {
    /// Renames the keys of the days to those of the batch. The server does this at once, and tells of it: no key may be
    /// open.
    pub(crate) fn rename(&self, ctx: Context<'_>) {
        for (from, to) in self.from.iter().zip(&self.keys) {
            // A key that another module has deleted meanwhile stays away.
            let _ = CoreCommand::rename(ctx, from.as_str(), to.as_str());
        }
    }

    /// Deletes the batch and its keys: how many keys these were, and what has changed.
    ///
    /// # Errors
    /// [`Error::TryAgain`]; nothing has been changed.
    pub(crate) fn delete<'a>(&'a self, ctx: Context<'a>, meter: Meter<'_>) -> Result<(usize, Vec<Change<'a>>), Error> {
        for key in &self.keys {
            meter.read::<Any>(ctx, key)?;
        }
        let mut changes: Vec<Change<'_>> = self.keys.iter().filter_map(|key| walk::delete(ctx, key)).collect();
        let deleted = changes.len();
        changes.extend(walk::delete(ctx, &self.batch));
        Ok((deleted, changes))
    }
}

/// The field of a key, counted from 0.
fn field(place: usize) -> OwnedStr {
    OwnedStr::from_integer(i64::try_from(place + 1).unwrap_or(i64::MAX))
}
