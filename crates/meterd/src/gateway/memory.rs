//! Keys that Redis has refused, for as long as it said that it would: a check of one need not ask again. Only refusals are
//! remembered, so that nothing passes that Redis would refuse.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis_meter_client::Verdict;
use tokio::time::Instant;

/// The number of parts, each with its own lock.
const PARTS: usize = 16;
/// The most keys of a part.
const KEYS: usize = 4096;

#[derive(Debug)]
struct Refusal {
    at: Instant,
    until: Instant,
    quantity: i64,
    verdict: Verdict,
}

/// The refusals that have not ended.
#[derive(Debug, Default)]
pub(super) struct Memory {
    hasher: RandomState,
    parts: [Mutex<HashMap<Vec<u8>, Refusal>>; PARTS],
}

impl Memory {
    fn part(&self, key: &[u8]) -> &Mutex<HashMap<Vec<u8>, Refusal>> {
        let hash = self.hasher.hash_one(key) % PARTS as u64;
        &self.parts[usize::try_from(hash).unwrap_or(0)]
    }

    /// Remembers a refusal that ends by itself.
    pub(super) fn note(&self, key: &[u8], quantity: i64, verdict: Verdict) {
        let Some(wait) = verdict.retry_after.filter(|_| verdict.limited) else { return };
        let at = Instant::now();
        let mut part = self.part(key).lock().unwrap_or_else(PoisonError::into_inner);
        if part.len() >= KEYS {
            part.retain(|_, refusal| refusal.until > at);
        }
        if part.len() < KEYS {
            part.insert(key.to_owned(), Refusal { at, until: at + wait, quantity, verdict });
        }
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        for part in &self.parts {
            part.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// What Redis would return to a call for the same quantity or a larger one.
    pub(super) fn refuses(&self, key: &[u8], quantity: i64) -> Option<Verdict> {
        let mut part = self.part(key).lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = part.get(key)?;
        let now = Instant::now();
        if refusal.until <= now {
            part.remove(key);
            return None;
        }
        let gone = now - refusal.at;
        let left = |wait: Duration| wait.saturating_sub(gone);
        let Verdict { retry_after, reset_after, .. } = refusal.verdict;
        (quantity >= refusal.quantity).then(|| Verdict {
            retry_after: retry_after.map(left),
            reset_after: left(reset_after),
            ..refusal.verdict
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Verdict = Verdict {
        limited: true,
        limit: 5,
        remaining: 0,
        retry_after: Some(Duration::from_secs(60)),
        reset_after: Duration::from_secs(300),
        taken: None,
    };

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_remembered_for_as_much_until_its_time_has_come() {
        let memory = Memory::default();
        memory.note(b"k", 2, REFUSED);
        assert_eq!(memory.refuses(b"k", 1), None);
        assert_eq!(memory.refuses(b"other", 2), None);
        tokio::time::advance(Duration::from_secs(59)).await;
        let verdict = memory.refuses(b"k", 3).expect("a refusal");
        assert_eq!(
            (verdict.retry_after, verdict.reset_after),
            (Some(Duration::from_secs(1)), Duration::from_secs(241))
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(memory.refuses(b"k", 3), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_passed_or_can_never_pass_is_not_remembered_and_room_is_bounded() {
        let memory = Memory::default();
        memory.note(b"k", 1, Verdict { limited: false, retry_after: None, ..REFUSED });
        memory.note(b"k", 9, Verdict { retry_after: None, ..REFUSED });
        assert_eq!(memory.refuses(b"k", 9), None);
        for n in 0..2 * PARTS * KEYS {
            memory.note(n.to_string().as_bytes(), 1, REFUSED);
        }
        assert!(memory.parts.iter().all(|part| part.lock().expect("a part").len() <= KEYS));
    }
}
