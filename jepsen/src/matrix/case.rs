//! What one run of the matrix does.

use std::fmt;
use std::str::FromStr;

use crate::nemesis::NemesisKind;
use crate::run;
use crate::seed;
use crate::workload::WorkloadKind;

/// A workload and the nemeses that disturb it, sorted and each once; none for calm.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// What clients do.
    pub workload: WorkloadKind,
    /// What disturbs the cluster, all at the same time.
    pub nemeses: Vec<NemesisKind>,
}

impl Case {
    /// Sorts the nemeses, and takes `none` for what it is.
    #[must_use]
    pub fn new(workload: WorkloadKind, mut nemeses: Vec<NemesisKind>) -> Self {
        nemeses.retain(|kind| *kind != NemesisKind::None);
        nemeses.sort_unstable();
        nemeses.dedup();
        Self { workload, nemeses }
    }

    /// Whether it needs a server that was built with the feature `lab`.
    #[must_use]
    pub fn needs_lab_server(&self) -> bool {
        self.nemeses.iter().any(|kind| kind.needs_lab_server())
    }

    /// Its columns in the table: the nemeses, or calm.
    #[must_use]
    pub fn columns(&self) -> Vec<NemesisKind> {
        if self.nemeses.is_empty() { vec![NemesisKind::None] } else { self.nemeses.clone() }
    }

    /// Its name as that of a file: `bank-kill+partition`, `bank-none`.
    #[must_use]
    pub fn file_name(&self) -> String {
        let words: Vec<&str> = self.columns().iter().map(|kind| kind.as_str()).collect();
        format!("{}-{}", self.workload, words.join("+"))
    }

    /// The seed of its run in the matrix of this seed. Another attempt has another one.
    #[must_use]
    pub fn seed(&self, matrix: u64, attempt: u32) -> u64 {
        let name = seed::of_name(&format!("{self} {attempt}"));
        // Spreads nearby seeds of the matrix.
        let mixed = (name ^ matrix).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 32)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&run::title(self.workload, &self.nemeses))
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (workload, nemeses) = run::parse_title(text)?;
        Ok(Self::new(workload, nemeses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_has_one_name_however_it_is_put() {
        let case: Case = "bank:partition+kill+none".parse().unwrap();
        assert_eq!(case.to_string(), "bank:kill+partition");
        assert_eq!(case.file_name(), "bank-kill+partition");
        assert_eq!(case, case.to_string().parse().unwrap());
        let calm: Case = "bank:none".parse().unwrap();
        assert_eq!((calm.to_string(), calm.file_name()), ("bank".into(), "bank-none".into()));
        assert_eq!(calm.columns(), [NemesisKind::None]);
        assert!("bank:flood".parse::<Case>().is_err());
    }

    #[test]
    fn seeds_differ_by_case_matrix_and_attempt() {
        let [bank, set]: [Case; 2] = ["bank:kill", "set:kill"].map(|text| text.parse().unwrap());
        let all = [bank.seed(1, 1), bank.seed(1, 2), bank.seed(2, 1), set.seed(1, 1)];
        let distinct: std::collections::BTreeSet<u64> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(bank.seed(1, 1), bank.seed(1, 1));
    }
}
