//! The replica of the eventual keyspaces.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::register::{PeerLabel, PeerSeconds, Register, raise, signed};
use crate::node::Summary;
use crate::replication::gossip::Clocks;

/// Instruments of gossip.
#[derive(Debug)]
pub(super) struct GossipMetrics {
    serving: Gauge,
    recovering: Gauge,
    exchanges: Counter,
    same: Counter,
    closed: Counter,
    flagged: Counter,
    not_closed: Counter,
    silent: Counter,
    stored: Counter,
    known: Counter,
    not_applied: Counter,
    ahead: Counter,
    malformed: Counter,
    damaged: Counter,
    suspected: Counter,
    started_over: Counter,
    rewritten: Counter,
    scrubs: Counter,
    store_scrubs: Counter,
    mended: Counter,
    minted: Counter,
    renamed: Counter,
    rumors_left: Counter,
    fetched: Counter,
    offers_left: Counter,
    forgotten: Counter,
    aged: Counter,
    expired: Counter,
    expired_for_others: Counter,
    deadlines: Gauge,
    clock_alarm: Gauge,
    correction: Gauge<f64, AtomicU64>,
    offset: PeerSeconds,
    round_trip: PeerSeconds,
    repaired: Counter,
    retiring: Counter,
    actors_unfolded: Gauge,
    actors_folded: Gauge,
}

impl GossipMetrics {
    pub(super) fn new(r: &mut Register<'_>) -> Self {
        Self {
            serving: r.gauge("gossip_serving", "1 when the eventual keyspaces are served"),
            recovering: r
                .gauge("gossip_recovering", "1 while reads of eventual keyspaces are refused"),
            exchanges: r.counter("gossip_exchanges", "Exchanges opened with other replicas"),
            same: r.counter("gossip_exchanges_same", "Exchanges that found both replicas equal"),
            closed: r.counter("gossip_sessions_closed", "Sessions that brought this replica up"),
            flagged: r.counter(
                "gossip_sessions_flagged",
                "Of these, such as had to compare the hash tree because contexts were forgotten",
            ),
            not_closed: r.counter("gossip_sessions_not_closed", "Sessions that ended without"),
            silent: r.counter("gossip_sessions_silent", "Sessions given up in silence"),
            stored: r.counter("gossip_records_stored", "Writes of other replicas stored here"),
            known: r.counter("gossip_records_known", "Writes that came although known"),
            not_applied: r
                .counter("gossip_records_not_applied", "Writes that could not be applied yet"),
            ahead: r.counter(
                "gossip_stamps_ahead",
                "Writes stamped more than 500 ms ahead of this node's clock",
            ),
            malformed: r.counter("gossip_messages_malformed", "Messages that say nothing"),
            damaged: r.counter("gossip_damage", "Times that something stored was found lost"),
            suspected: r.counter(
                "gossip_suspicions",
                "Times that another replica knew the same and had something else, or said so",
            ),
            started_over: r.counter(
                "gossip_started_over",
                "Times that this replica was damaged and began anew with what could be read of it",
            ),
            rewritten: r.counter(
                "gossip_rewritten",
                "Values written anew because nobody else knew of them when this replica began anew",
            ),
            scrubs: r.counter("gossip_scrubs", "Times that all of this replica was verified"),
            store_scrubs: r.counter(
                "gossip_store_scrubs",
                "Times that all that is stored was read and compared with what is in memory",
            ),
            mended: r.counter(
                "gossip_items_mended",
                "Items that the store had lost, put again from memory",
            ),
            minted: r.counter(
                "gossip_actors_minted",
                "Times that others knew of writes that were never issued here: the disk was rolled \
                 back or copied",
            ),
            renamed: r.counter(
                "gossip_actors_renamed",
                "Times that two replicas issued writes by names that begin alike, and this one took \
                 another",
            ),
            rumors_left: r.counter(
                "gossip_rumors_left",
                "Writes left to exchanges because too many waited to be spread",
            ),
            fetched: r.counter("gossip_values_fetched", "Large values fetched after an offer"),
            offers_left: r.counter(
                "gossip_offers_left",
                "Large values left to exchanges: too many were offered, or they did not come",
            ),
            forgotten: r.counter(
                "gossip_certificates_forgotten",
                "Contexts and death certificates dropped because every member has them",
            ),
            aged: r.counter("gossip_certificates_aged", "The same because of their age"),
            repaired: r.counter(
                "gossip_records_repaired",
                "Writes that quorum reads found missing at a replica that was asked",
            ),
            expired: r.counter("gossip_values_expired", "Values ended here, their time being over"),
            expired_for_others: r.counter(
                "gossip_values_expired_for_others",
                "Of these, values that another node took and did not end in time",
            ),
            deadlines: r.gauge("gossip_values_with_deadline", "Values stored that end at a time"),
            clock_alarm: r.gauge(
                "gossip_clock_alarm",
                "1 while the clock of this node or of a member in contact is more than 500 ms off, \
                 or was when a value came",
            ),
            correction: r.seconds(
                "gossip_clock_correction_seconds",
                "Median of the members' clocks minus that of this node",
            ),
            offset: r.family("gossip_peer_offset_seconds", "A peer's clock minus that of this node"),
            round_trip: r.family(
                "gossip_peer_round_trip_seconds",
                "Round trip of the question that told the offset",
            ),
            retiring: r.counter(
                "gossip_records_retiring",
                "Late writes of actors that retire, left to exchanges",
            ),
            actors_unfolded: r.gauge(
                "gossip_actors_unfolded",
                "Starts of nodes that clocks and tokens name in full, some 30 bytes each",
            ),
            actors_folded: r.gauge(
                "gossip_actors_folded",
                "Starts of nodes that are named by a number, almost for free",
            ),
        }
    }

    pub(super) fn take(&self, summary: &Summary) {
        let Some(gossip) = &summary.gossip else {
            self.serving.set(0);
            return;
        };
        self.serving.set(1);
        self.recovering.set(i64::from(gossip.recovering));
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.actors_unfolded.set(gauge(gossip.actors.unfolded));
        self.actors_folded.set(gauge(gossip.actors.folded));
        let counts = &gossip.counts;
        for (counter, value) in [
            (&self.exchanges, counts.exchanges),
            (&self.same, counts.same),
            (&self.closed, counts.closed),
            (&self.flagged, counts.flagged),
            (&self.not_closed, counts.not_closed),
            (&self.silent, counts.silent),
            (&self.stored, counts.stored),
            (&self.known, counts.known),
            (&self.not_applied, counts.not_applied),
            (&self.ahead, counts.ahead),
            (&self.malformed, counts.malformed),
            (&self.damaged, counts.damaged),
            (&self.suspected, counts.suspected),
            (&self.started_over, counts.started_over),
            (&self.rewritten, counts.rewritten),
            (&self.scrubs, counts.scrubs),
            (&self.store_scrubs, counts.store_scrubs),
            (&self.mended, counts.mended),
            (&self.minted, counts.minted),
            (&self.renamed, counts.renamed),
            (&self.rumors_left, counts.rumors_left),
            (&self.fetched, counts.fetched),
            (&self.offers_left, counts.offers_left),
            (&self.forgotten, counts.forgotten),
            (&self.aged, counts.aged),
            (&self.expired, counts.expired),
            (&self.expired_for_others, counts.expired_for_others),
            (&self.repaired, counts.repaired),
            (&self.retiring, counts.retiring),
        ] {
            raise(counter, value);
        }
        self.take_clocks(summary, &gossip.clocks);
    }

    fn take_clocks(&self, summary: &Summary, clocks: &Clocks) {
        self.clock_alarm.set(i64::from(clocks.alarm));
        self.deadlines.set(signed(clocks.deadlines as u64));
        self.correction.set(seconds(clocks.correction_us));
        // Who is not in contact any more has no clock that is known.
        self.offset.clear();
        self.round_trip.clear();
        for clock in &clocks.peers {
            let label = PeerLabel { peer: summary.name_of(clock.node) };
            self.offset.get_or_create(&label).set(seconds(clock.estimate.offset));
            let round_trip_us = signed(clock.estimate.round_trip);
            self.round_trip.get_or_create(&label).set(seconds(round_trip_us));
        }
    }
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
