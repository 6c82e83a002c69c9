//! Everything that is wrong with a configuration, said at once.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting's name as the file spells it, for example `mqtt_listen`.
    pub setting: String,
    /// What is wrong and what to give instead.
    pub message: String,
}

/// A list of problems. Collected rather than returned one by one, so that an operator mends all in one go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Makes an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a list of one.
    pub fn one(setting: impl Into<String>, message: impl Into<String>) -> Self {
        let mut problems = Self::default();
        problems.add(setting, message);
        problems
    }

    /// Adds a problem.
    pub fn add(&mut self, setting: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem {
            setting: setting.into(),
            message: message.into(),
        });
    }

    /// Takes the problems of a part, whose settings lie below `section` in the file.
    pub fn extend(&mut self, section: &str, other: Problems) {
        for problem in other.0 {
            self.add(format!("{section}.{}", problem.setting), problem.message);
        }
    }

    /// Takes all problems of another list.
    pub fn append(&mut self, mut other: Problems) {
        self.0.append(&mut other.0);
    }

    /// Tells whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns each problem.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// Returns `value` when nothing is wrong.
    ///
    /// # Errors
    /// The list itself when it is not empty.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "  {} {}", problem.setting, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
