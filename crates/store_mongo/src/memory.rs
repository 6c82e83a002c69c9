//! What a process remembers to be in the database, so that it need not be written or looked for again.
//!
//! It is a hint: forgetting costs an insertion that finds the document there, nothing else.

use std::collections::HashSet;

/// Most documents remembered in each of two generations: some 15 MB in both with ids of usual length.
const REMEMBERED: usize = 65_536;

/// The `_id`s of documents known to be there. When the younger generation is full it becomes the older one,
/// which is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    younger: HashSet<String>,
    older: HashSet<String>,
}

impl Memory {
    /// Tells whether a document is known to be there.
    pub(crate) fn knows(&mut self, id: &str) -> bool {
        if self.younger.contains(id) {
            return true;
        }
        match self.older.take(id) {
            Some(id) => {
                self.learn(id);
                true
            }
            None => false,
        }
    }

    /// Remembers a document that a majority has.
    pub(crate) fn learn(&mut self, id: String) {
        if self.younger.len() >= REMEMBERED {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_remembered_and_the_rest_forgotten() {
        let mut memory = Memory::default();
        memory.learn("used".to_owned());
        for i in 0..3 * REMEMBERED {
            memory.learn(i.to_string());
            assert!(memory.knows("used"), "forgotten at {i}");
        }
        assert!(!memory.knows("0"));
        assert!(memory.younger.len() <= REMEMBERED && memory.older.len() <= REMEMBERED);
    }
}
