//! Whether a run can move the clocks of its nodes, and what it leaves out if not.

use serde::Serialize;

use super::parameters::{Parameters, System};
use crate::cluster::ClockLibrary;
use crate::nemesis::NemesisKind;

/// A nemesis that was asked for and is left out, since it cannot be done here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Which one.
    pub nemesis: NemesisKind,
    /// Why, as a sentence.
    pub why: String,
}

/// What a run makes of the clocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// What moves them, if anything is to.
    pub library: Option<ClockLibrary>,
    /// What is left out.
    pub skipped: Vec<Skipped>,
}

impl Clocks {
    /// Looks for what the nemeses of a run need, with `find` on this machine.
    pub fn of(
        parameters: &Parameters,
        find: impl FnOnce() -> Result<ClockLibrary, String>,
    ) -> Self {
        let wanted = parameters.nemeses.iter().find(|kind| kind.moves_clocks());
        let Some(nemesis) = wanted.copied() else { return Self::default() };
        let found = match &parameters.system {
            System::Own { .. } => find(),
            System::Given(_) => Err("the lab did not start these nodes".to_owned()),
        };
        match found {
            Ok(library) => Self { library: Some(library), skipped: Vec::new() },
            Err(why) => Self { library: None, skipped: vec![Skipped { nemesis, why }] },
        }
    }

    /// The nemeses that are left.
    pub fn possible(&self, nemeses: &[NemesisKind]) -> Vec<NemesisKind> {
        let is_skipped = |kind| self.skipped.iter().any(|skipped| skipped.nemesis == kind);
        nemeses.iter().copied().filter(|kind| !is_skipped(*kind)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::target::Given;
    use crate::workload::{Load, WorkloadKind};

    fn parameters(system: System, nemeses: &[NemesisKind]) -> Parameters {
        Parameters {
            system,
            workload: WorkloadKind::Register,
            nemeses: nemeses.to_vec(),
            time_limit: Duration::from_secs(1),
            seed: 1,
            load: Load::default(),
        }
    }

    #[test]
    fn what_cannot_be_moved_is_left_out_with_its_reason() {
        let own = || System::Own { binary: "x".into(), nodes: 3 };
        let both = [NemesisKind::Kill, NemesisKind::Clock];
        let absent = || Err("not found".to_owned());
        let clocks = Clocks::of(&parameters(own(), &both), absent);
        assert_eq!(clocks.library, None);
        let skipped = Skipped { nemesis: NemesisKind::Clock, why: "not found".to_owned() };
        assert_eq!(clocks.skipped, [skipped]);
        assert_eq!(clocks.possible(&both), [NemesisKind::Kill]);
        // Who does not ask for it does not look for it.
        let calm = Clocks::of(&parameters(own(), &both[..1]), || panic!("nobody asked"));
        assert_eq!(calm, Clocks::default());
        assert_eq!(calm.possible(&both), both);
    }

    #[test]
    fn clocks_of_nodes_that_the_lab_did_not_start_are_left_alone() {
        let endpoints = vec!["a:1".to_owned()];
        let [ca, cert, key] = ["ca", "cert", "key"].map(Into::into);
        let given = System::Given(Given { endpoints, ca, cert, key, keyspace: None });
        let parameters = parameters(given, &[NemesisKind::Clock]);
        parameters.validate().unwrap();
        let clocks = Clocks::of(&parameters, || panic!("it would be of no use"));
        assert_eq!(clocks.skipped[0].why, "the lab did not start these nodes");
        assert!(clocks.possible(&parameters.nemeses).is_empty());
    }
}
