//! Figures and what was promised about them.

use std::fmt::Display;
use std::process::ExitCode;

/// Collects figures, prints each with its promise, and says in the end whether all were kept.
#[derive(Debug, Default)]
pub struct Promises {
    kept: usize,
    broken: Vec<String>,
}

impl Promises {
    /// A figure that must not exceed `most`.
    pub fn at_most<T: PartialOrd + Display>(&mut self, what: &str, found: T, most: T, unit: &str) {
        let kept = found <= most;
        self.note(what, &format!("{found} {unit}"), &format!("<= {most} {unit}"), kept);
    }

    /// A figure that must reach `least`.
    pub fn at_least<T: PartialOrd + Display>(
        &mut self,
        what: &str,
        found: T,
        least: T,
        unit: &str,
    ) {
        let kept = found >= least;
        self.note(what, &format!("{found} {unit}"), &format!(">= {least} {unit}"), kept);
    }

    /// Something that must be so. `found` says what was seen.
    pub fn holds(&mut self, what: &str, found: &str, promise: &str, kept: bool) {
        self.note(what, found, promise, kept);
    }

    /// A figure without a promise.
    pub fn figure(&self, what: &str, found: impl Display) {
        println!("{what:<54} {found:>16}");
    }

    /// Whether a promise was not kept.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Prints the verdict; the exit code of the program.
    #[must_use]
    pub fn verdict(&self) -> ExitCode {
        if self.broken.is_empty() {
            println!("all {} promises were kept", self.kept);
            return ExitCode::SUCCESS;
        }
        let all = self.kept + self.broken.len();
        println!(
            "{} of {all} promises were NOT kept: {}",
            self.broken.len(),
            self.broken.join("; ")
        );
        ExitCode::FAILURE
    }

    fn note(&mut self, what: &str, found: &str, promise: &str, kept: bool) {
        let word = if kept { "kept" } else { "NOT KEPT" };
        println!("{what:<54} {found:>16}  ({promise}): {word}");
        if kept {
            self.kept += 1;
        } else {
            self.broken.push(what.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_broken_promise_fails_the_program() {
        let mut promises = Promises::default();
        promises.at_most("a", 1, 1, "s");
        promises.at_least("b", 1.0, 0.5, "");
        promises.figure("c", 7);
        assert!(promises.broken.is_empty() && promises.kept == 2);
        promises.at_most("d", 2, 1, "s");
        promises.at_least("e", f64::NAN, 0.5, "");
        promises.holds("f", "no", "yes", false);
        assert_eq!(promises.broken, ["d", "e", "f"]);
    }
}
