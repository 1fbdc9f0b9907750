//! SWIM by the crate `foca`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::{NonZeroU8, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;
use foca::{
    AccumulatingRuntime, Config, Error, Foca, Identity, NoCustomBroadcast, OwnedNotification,
    PeriodicParams, State, Timer,
};
use proto::NodeId;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::codec::{self, Life, PacketCodec};
use super::{Liveness, LivenessCounts, Output, Vitality};

/// Milliseconds between two attempts to reach members that are not known to be up.
pub const ANNOUNCE_MS: u64 = 5_000;

/// Longest packet.
const PACKET_BYTES_MAX: usize = 1_400;

type Instance = Foca<Life, PacketCodec, ChaCha8Rng, NoCustomBroadcast>;

/// Liveness by SWIM. See the [module page](super).
pub struct Swim {
    foca: Instance,
    rng: ChaCha8Rng,
    members: BTreeSet<NodeId>,
    now_ms: u64,
    next_announce_ms: u64,
    /// What foca wants to hear again, by time and the order in which it asked.
    timers: BTreeMap<(u64, u64), Timer<Life>>,
    timers_set: u64,
    output: Output,
    counts: LivenessCounts,
}

impl fmt::Debug for Swim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Swim");
        text.field("life", self.foca.identity()).field("members", &self.members);
        text.field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Swim {
    /// Liveness of a node that starts. `incarnation` should be above those of its earlier starts, such as the time in
    /// milliseconds; else the others take it for dead until it has overtaken them.
    #[must_use]
    pub fn new(node: NodeId, incarnation: u64, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha8Rng::from_seed(seed);
        let foca = instance(Life { node, incarnation }, &mut rng);
        Self {
            foca,
            rng,
            members: BTreeSet::new(),
            now_ms: 0,
            next_announce_ms: 0,
            timers: BTreeMap::new(),
            timers_set: 0,
            output: Output::default(),
            counts: LivenessCounts::default(),
        }
    }

    /// Lets foca act, and takes what it wants. An error that is not the fault of what a peer said, and a panic, end the
    /// instance.
    fn act(
        &mut self,
        what: impl FnOnce(&mut Instance, &mut AccumulatingRuntime<Life>) -> Result<(), Error>,
    ) {
        let mut runtime = AccumulatingRuntime::new();
        let foca = &mut self.foca;
        // What is left behind by a panic is thrown away.
        let result = catch_unwind(AssertUnwindSafe(|| what(foca, &mut runtime)));
        match result {
            Ok(Ok(())) => self.take(runtime),
            Ok(Err(error)) if is_of_peer(&error) => {
                self.counts.malformed += 1;
                self.take(runtime);
            }
            Ok(Err(_)) | Err(_) => self.rebuild(),
        }
    }

    fn take(&mut self, mut runtime: AccumulatingRuntime<Life>) {
        while let Some((to, packet)) = runtime.to_send() {
            self.send(to.node, packet);
        }
        while let Some((after, timer)) = runtime.to_schedule() {
            let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            self.timers_set += 1;
            self.timers.insert((self.now_ms.saturating_add(after_ms), self.timers_set), timer);
        }
        while let Some(notification) = runtime.to_notify() {
            // Others may have been members when they were heard of.
            if let OwnedNotification::MemberDown(life) = notification
                && self.members.contains(&life.node)
            {
                self.output.downs.push(life.node);
            }
        }
    }

    /// Nobody but members is spoken to: of others foca may have heard from members that do not know yet that they went.
    fn send(&mut self, to: NodeId, packet: Bytes) {
        if self.members.contains(&to) {
            self.output.sends.push((to, packet));
        }
    }

    /// Begins anew, as somebody that the others have to hear of again.
    fn rebuild(&mut self) {
        self.counts.rebuilt += 1;
        let life = *self.foca.identity();
        self.foca = instance(life.renew().unwrap_or(life), &mut self.rng);
        self.timers.clear();
        self.next_announce_ms = self.now_ms;
    }

    /// Tells members that are not known to be up of this one, and asks them who else is.
    fn announce(&mut self) {
        let up: BTreeSet<NodeId> =
            self.foca.iter_members().map(|member| member.id().node).collect();
        let others: Vec<NodeId> = self.members.difference(&up).copied().collect();
        for node in others {
            // An announcement is taken by any life of its receiver.
            let to = Life { node, incarnation: 0 };
            self.act(|foca, runtime| foca.announce(to, runtime));
        }
    }

    #[cfg(test)]
    pub(super) fn fail(&mut self, by_panic: bool) {
        self.act(|_, _| {
            assert!(!by_panic, "a panic inside");
            Err(Error::NotConnected)
        });
    }

    #[cfg(test)]
    pub(super) fn timers(&self) -> usize {
        self.timers.len()
    }
}

impl Liveness for Swim {
    fn set_members(&mut self, others: &BTreeSet<NodeId>) {
        if self.members != *others {
            self.members.clone_from(others);
            self.next_announce_ms = self.now_ms;
        }
    }

    fn on_packet(&mut self, from: NodeId, packet: &[u8]) {
        if !self.members.contains(&from) {
            return;
        }
        let own = self.foca.identity().node;
        let counts = |node: NodeId| node == own || self.members.contains(&node);
        match codec::only_of(packet, counts) {
            // Nobody speaks for another one.
            Ok((sender, packet)) if sender == from => {
                self.act(|foca, runtime| foca.handle_data(&packet, runtime));
            }
            _ => self.counts.malformed += 1,
        }
    }

    fn on_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        // What is asked for meanwhile is later than now.
        while let Some(first) = self.timers.first_entry().filter(|first| first.key().0 <= now_ms) {
            let timer = first.remove();
            self.act(|foca, runtime| foca.handle_timer(timer, runtime));
        }
        if now_ms >= self.next_announce_ms {
            self.next_announce_ms = now_ms + ANNOUNCE_MS;
            self.announce();
        }
    }

    fn poll(&mut self) -> Output {
        std::mem::take(&mut self.output)
    }

    fn vitality(&self, node: NodeId) -> Vitality {
        let mut all = self.foca.iter_membership_state();
        match all.find(|member| member.id().node == node).map(|member| member.state()) {
            None => Vitality::Unknown,
            Some(State::Alive) => Vitality::Up,
            Some(State::Suspect) => Vitality::Suspect,
            Some(State::Down) => Vitality::Down,
        }
    }

    fn counts(&self) -> LivenessCounts {
        self.counts
    }
}

fn instance(life: Life, rng: &mut ChaCha8Rng) -> Instance {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    Foca::new(life, config(), ChaCha8Rng::from_seed(seed), PacketCodec)
}

fn config() -> Config {
    let many = |number: usize| NonZeroUsize::new(number).expect("it is above 0");
    Config {
        probe_period: Duration::from_secs(1),
        // A link may be busy with the end of a bulk frame, and a node with its disk.
        probe_rtt: Duration::from_millis(400),
        num_indirect_probes: many(3),
        max_transmissions: NonZeroU8::new(10).expect("it is above 0"),
        suspect_to_down_after: Duration::from_secs(4),
        // By their ids, which never come back: there are no more than nodes.
        remove_down_after: None,
        max_packet_size: many(PACKET_BYTES_MAX),
        notify_down_members: true,
        periodic_announce: Some(PeriodicParams {
            frequency: Duration::from_secs(30),
            num_members: many(1),
        }),
        // Those are asked by the caller, also while nobody is up.
        periodic_announce_to_down_members: None,
        periodic_gossip: Some(PeriodicParams {
            frequency: Duration::from_millis(200),
            num_members: many(3),
        }),
    }
}

/// Whether an error says only that a peer said something strange.
fn is_of_peer(error: &Error) -> bool {
    match error {
        Error::DataTooBig
        | Error::DataFromOurselves
        | Error::IndirectForOurselves
        | Error::MalformedPacket
        | Error::Decode(_)
        | Error::CustomBroadcast(_) => true,
        Error::NotUndead
        | Error::SameIdentity
        | Error::NotConnected
        | Error::IncompleteProbeCycle
        | Error::Encode(_)
        | Error::InvalidConfig => false,
    }
}
