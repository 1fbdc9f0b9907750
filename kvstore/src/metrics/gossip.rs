//! The replica of the eventual keyspaces.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::register::{Register, raise};
use crate::node::Summary;

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
    minted: Counter,
    rumors_left: Counter,
    forgotten: Counter,
    aged: Counter,
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
            minted: r.counter(
                "gossip_actors_minted",
                "Times that others knew of writes that were never issued here: the disk was rolled \
                 back or copied",
            ),
            rumors_left: r.counter(
                "gossip_rumors_left",
                "Writes left to exchanges because too many waited to be spread",
            ),
            forgotten: r.counter(
                "gossip_certificates_forgotten",
                "Contexts and death certificates dropped because every member has them",
            ),
            aged: r.counter("gossip_certificates_aged", "The same because of their age"),
        }
    }

    pub(super) fn take(&self, summary: &Summary) {
        let Some(gossip) = &summary.gossip else {
            self.serving.set(0);
            return;
        };
        self.serving.set(1);
        self.recovering.set(i64::from(gossip.recovering));
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
            (&self.minted, counts.minted),
            (&self.rumors_left, counts.rumors_left),
            (&self.forgotten, counts.forgotten),
            (&self.aged, counts.aged),
        ] {
            raise(counter, value);
        }
    }
}
