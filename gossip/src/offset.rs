//! How far the clocks of two nodes are apart, from four times of one exchange.
//!
//! The formulas are those of NTP (RFC 5905, section 8). Offsets are for stamps and for display only:
//! no decision about obsolescence, forgetting or freshness rests on them.

/// The four times of one exchange, in microseconds. The first and the last are of the asker's clock,
/// the other two of the answerer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The asker sent the question.
    pub asked: i64,
    /// The answerer received it.
    pub received: i64,
    /// The answerer sent the answer.
    pub answered: i64,
    /// The asker received it.
    pub heard: i64,
}

/// What one exchange says about the answerer's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The answerer's clock minus the asker's, in microseconds. Wrong by half the round trip at most.
    pub offset: i64,
    /// Time on the way, both ways, in microseconds.
    pub round_trip: u64,
}

impl Exchange {
    /// The estimate, or `None` where the times contradict themselves: a clock was set meanwhile.
    #[must_use]
    pub fn estimate(&self) -> Option<Estimate> {
        let [asked, received, answered, heard] =
            [self.asked, self.received, self.answered, self.heard].map(i128::from);
        let round_trip = (heard - asked) - (answered - received);
        if heard < asked || answered < received || round_trip < 0 {
            return None;
        }
        let offset = ((received - asked) + (answered - heard)) / 2;
        Some(Estimate {
            offset: i64::try_from(offset).ok()?,
            round_trip: u64::try_from(round_trip).ok()?,
        })
    }
}

/// The estimate to trust among some of the same peer: the one with the shortest round trip, which is
/// wrong by the least (RFC 5905, section 10); of several the first. `None` without any.
#[must_use]
pub fn best(estimates: impl IntoIterator<Item = Estimate>) -> Option<Estimate> {
    estimates.into_iter().min_by_key(|estimate| estimate.round_trip)
}

/// By how much a node corrects its clock: the median of the members' offsets, with its own, 0, among
/// them. Of an even number, the one of the two in the middle that is nearer to the correction so far, and the
/// lower one where they are equally near. So a minority of wrong clocks does not move anybody, two nodes
/// alone keep their clocks, and a member that goes away does not bring a wrong clock back.
#[must_use]
pub fn correction(offsets_to_others: &[i64], so_far: i64) -> i64 {
    let mut offsets = offsets_to_others.to_vec();
    offsets.push(0);
    offsets.sort_unstable();
    let (low, high) = (offsets[(offsets.len() - 1) / 2], offsets[offsets.len() / 2]);
    if low.abs_diff(so_far) <= high.abs_diff(so_far) { low } else { high }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_estimate_is_wrong_by_half_the_round_trip_at_most(
            start in -1_000_000..1_000_000_i64,
            skew in -4_000_000_000..4_000_000_000_i64,
            there in 0..500_000_i64,
            work in 0..500_000_i64,
            back in 0..500_000_i64,
        ) {
            let exchange = Exchange {
                asked: start,
                received: start + there + skew,
                answered: start + there + work + skew,
                heard: start + there + work + back,
            };
            let estimate = exchange.estimate().unwrap();
            prop_assert_eq!(estimate.round_trip, (there + back).cast_unsigned());
            let wrong = (estimate.offset - skew).unsigned_abs();
            prop_assert!(wrong <= estimate.round_trip / 2 + 1, "wrong by {}", wrong);
        }

        #[test]
        fn any_times_are_judged(times: [i64; 4]) {
            let [asked, received, answered, heard] = times;
            let exchange = Exchange { asked, received, answered, heard };
            if exchange.estimate().is_some() {
                prop_assert!(heard >= asked && answered >= received);
            }
        }

        /// A minority of clocks, however wrong, does not lead outside the others.
        #[test]
        fn a_minority_does_not_move_the_median(
            good in prop::collection::vec(-100..100_i64, 2..5),
            bad in any::<i64>(),
        ) {
            let mut offsets = good.clone();
            offsets.push(bad);
            let correction = correction(&offsets, 0);
            prop_assert!((-100..100).contains(&correction), "{}", correction);
        }
    }

    #[test]
    fn the_median_and_the_best_estimate() {
        assert_eq!(correction(&[], 0), 0);
        assert_eq!(correction(&[3_600_000_000], 0), 0);
        assert_eq!(correction(&[-40, 3_600_000_000], 0), 0);
        assert_eq!(correction(&[40, 50], 0), 40);
        // An hour fast, and one of the two that said so is gone.
        assert_eq!(correction(&[-3_600_000_000], -3_599_999_000), -3_600_000_000);
        let far = Estimate { offset: 9, round_trip: 90 };
        let near = Estimate { offset: 2, round_trip: 20 };
        assert_eq!(best([far, near]), Some(near));
        assert_eq!(best([]), None);
    }
}
