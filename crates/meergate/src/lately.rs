//! What was found out lately, so that it need not be found out again for a while.

use std::fmt;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

/// A SHA-256 of all that was asked.
pub(crate) type Question = [u8; 32];

/// Answers to questions, each for as long as it is kept. Of too many those go that were asked for least.
pub(crate) struct Lately<T> {
    answers: Cache<Question, (Instant, T)>,
}

impl<T: Clone> Lately<T> {
    /// Remembers up to `most` answers.
    pub(crate) fn new(most: usize) -> Self {
        Self { answers: Cache::new(most) }
    }

    /// The answer, if it still counts.
    pub(crate) fn answer(&self, question: &Question) -> Option<T> {
        let (until, answer) = self.answers.get(question)?;
        (Instant::now() < until).then_some(answer)
    }

    /// Notes an answer that counts for `keep` from now.
    pub(crate) fn note(&self, question: Question, answer: T, keep: Duration) {
        self.answers.insert(question, (Instant::now() + keep, answer));
    }
}

impl<T> fmt::Debug for Lately<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lately").finish_non_exhaustive()
    }
}
