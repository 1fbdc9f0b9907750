//! Which runs there are: one for each pair of workload and nemesis, or few in which every pair occurs.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::Case;
use crate::nemesis::NemesisKind;
use crate::workload::WorkloadKind;

/// Runs that are tried out for each one that is taken.
const CANDIDATES: usize = 64;

/// A run for each workload with each nemesis. The order goes through all workloads and all nemeses
/// early, so that a matrix that is ended before its time has seen something of each.
#[must_use]
pub fn every(workloads: &[WorkloadKind], nemeses: &[NemesisKind]) -> Vec<Case> {
    let mut cases = Vec::new();
    for shift in 0..nemeses.len() {
        for (place, workload) in workloads.iter().enumerate() {
            let nemesis = nemeses[(place + shift) % nemeses.len()];
            cases.push(Case::new(*workload, vec![nemesis]));
        }
    }
    cases
}

/// Something that has to occur in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pair {
    /// A nemesis with a workload.
    With(WorkloadKind, NemesisKind),
    /// Two nemeses, the lesser one first.
    Both(NemesisKind, NemesisKind),
}

/// Few runs of at most `together` nemeses, in which every pair of workload and nemesis occurs, and
/// every pair of nemeses that go together. What adds most comes first. Chosen greedily, so not the
/// fewest there could be.
///
/// # Panics
///
/// If `together` is less than 2: pairs would never be complete.
#[must_use]
pub fn pairs(
    workloads: &[WorkloadKind],
    nemeses: &[NemesisKind],
    together: usize,
    seed: u64,
) -> Vec<Case> {
    assert!(together >= 2, "a pair of nemeses needs a run of two");
    let nemeses: Vec<NemesisKind> =
        nemeses.iter().copied().filter(|kind| *kind != NemesisKind::None).collect();
    let mut missing = BTreeSet::new();
    for (place, nemesis) in nemeses.iter().enumerate() {
        missing.extend(workloads.iter().map(|workload| Pair::With(*workload, *nemesis)));
        let others = nemeses[..place].iter().filter(|other| other.goes_with(*nemesis));
        missing.extend(others.map(|other| both(*other, *nemesis)));
    }
    if workloads.is_empty() {
        missing.clear();
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut cases = Vec::new();
    while !missing.is_empty() {
        let mut best: Option<(usize, Case)> = None;
        for _ in 0..CANDIDATES {
            let workload =
                *workloads.choose(&mut rng).expect("without workloads nothing is missing");
            let (gain, case) = candidate(workload, &nemeses, together, &missing, &mut rng);
            if best.as_ref().is_none_or(|(most, _)| gain > *most) {
                best = Some((gain, case));
            }
        }
        let (gain, case) = best.expect("there is more than no candidate");
        if gain == 0 {
            // Chance has passed over the workloads that lack something.
            continue;
        }
        for pair in pairs_of(&case) {
            missing.remove(&pair);
        }
        cases.push(case);
    }
    cases
}

/// A run of this workload that takes what adds most, one nemesis after the other; chance decides
/// between equals. Also how many missing pairs it has.
fn candidate(
    workload: WorkloadKind,
    nemeses: &[NemesisKind],
    together: usize,
    missing: &BTreeSet<Pair>,
    rng: &mut ChaCha8Rng,
) -> (usize, Case) {
    let mut shuffled = nemeses.to_vec();
    shuffled.shuffle(rng);
    let mut taken: Vec<NemesisKind> = Vec::new();
    let mut gained = 0;
    while taken.len() < together {
        let free = shuffled.iter().filter(|kind| {
            !taken.contains(kind) && taken.iter().all(|other| other.goes_with(**kind))
        });
        let gain = |kind: NemesisKind| {
            let with = usize::from(missing.contains(&Pair::With(workload, kind)));
            let others = taken.iter().filter(|other| missing.contains(&both(**other, kind)));
            with + others.count()
        };
        let Some((gain, kind)) =
            free.map(|kind| (gain(*kind), *kind)).max_by_key(|(gain, _)| *gain)
        else {
            break;
        };
        // The first one may add nothing by itself and a lot with the second one.
        if gain == 0 && !taken.is_empty() {
            break;
        }
        gained += gain;
        taken.push(kind);
    }
    (gained, Case::new(workload, taken))
}

fn both(a: NemesisKind, b: NemesisKind) -> Pair {
    Pair::Both(a.min(b), a.max(b))
}

fn pairs_of(case: &Case) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (place, kind) in case.nemeses.iter().enumerate() {
        pairs.push(Pair::With(case.workload, *kind));
        pairs.extend(case.nemeses[..place].iter().map(|other| both(*other, *kind)));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_occurs_once() {
        let cases = every(&WorkloadKind::ALL, &NemesisKind::ALL);
        let distinct: BTreeSet<&Case> = cases.iter().collect();
        assert_eq!(cases.len(), WorkloadKind::ALL.len() * NemesisKind::ALL.len());
        assert_eq!(distinct.len(), cases.len());
        // One round over the workloads has seen as many nemeses.
        let first: BTreeSet<NemesisKind> =
            cases[..WorkloadKind::ALL.len()].iter().flat_map(Case::columns).collect();
        assert_eq!(first.len(), WorkloadKind::ALL.len());
    }

    #[test]
    fn every_pair_occurs_in_few_runs() {
        for together in 2..=6 {
            let cases = pairs(&WorkloadKind::ALL, &NemesisKind::ALL, together, 7);
            let found: BTreeSet<Pair> = cases.iter().flat_map(pairs_of).collect();
            for (place, nemesis) in NemesisKind::ALL.iter().enumerate().skip(1) {
                for workload in WorkloadKind::ALL {
                    assert!(
                        found.contains(&Pair::With(workload, *nemesis)),
                        "{workload} {nemesis}"
                    );
                }
                for other in &NemesisKind::ALL[1..place] {
                    let wanted = other.goes_with(*nemesis);
                    assert_eq!(
                        found.contains(&both(*other, *nemesis)),
                        wanted,
                        "{other} {nemesis}"
                    );
                }
            }
            // 96 pairs with workloads and 65 of nemeses; no fewer runs than the former need.
            let least = 96_usize.div_ceil(together);
            assert!((least..=2 * least + 2).contains(&cases.len()), "{together}: {}", cases.len());
            assert!(cases.iter().all(|case| case.nemeses.len() <= together));
        }
    }

    #[test]
    fn a_plan_follows_from_its_seed() {
        let plan = |seed| pairs(&WorkloadKind::ALL, &NemesisKind::ALL, 4, seed);
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
    }

    #[test]
    fn small_plans_end() {
        let one = [WorkloadKind::Bank];
        let kill = [NemesisKind::None, NemesisKind::Kill];
        assert_eq!(
            pairs(&one, &kill, 2, 0),
            [Case::new(WorkloadKind::Bank, vec![NemesisKind::Kill])]
        );
        assert!(pairs(&one, &[NemesisKind::None], 2, 0).is_empty());
        assert!(pairs(&[], &kill, 2, 0).is_empty());
        assert!(every(&[], &kill).is_empty() && every(&one, &[]).is_empty());
    }
}
