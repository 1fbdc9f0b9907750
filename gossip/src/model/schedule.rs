//! Schedules: a seed is a setting, weights, and all steps.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::operation::{Basis, Operation};
use super::world::{REPLICAS_MAX, Setting};

/// Weight of each kind of operation before a seed changes it, in the order of [`Operation::kind`].
const BASE: [u16; Operation::KINDS] = [
    24, 10, 4, 16, 8, 12, 8, 1, 10, // Write .. Session
    6, 5, 3, 3, 3, 2, 3, 2, 2, 1, 1, // DropCertificate .. Scrub
    4, 12, 6, 6, 4, 10, 2, 4, 6, 4, // Retire .. SessionWrite
    3, 4, 10, 6, 4, // Retry .. Crash
];

/// Operations that a seed has or has not, together; two in five seeds have a group. The others are
/// in every seed.
const GROUPS: [&[usize]; 13] = [
    &[9, 10],
    &[11, 12],
    &[13],
    &[14],
    &[15, 16],
    &[17, 18, 19],
    &[20, 21, 22],
    &[23, 24, 25],
    &[26, 27],
    &[28, 29],
    &[30],
    &[31],
    &[34],
];
/// Beats and claims.
const FRESHNESS: [usize; 2] = [32, 33];

/// Disks that are lost or put back. More of them, and nothing lives long enough to go wrong.
const DISKS: [usize; 3] = [14, 16, 34];

/// What a seed is about, if it is about something: kinds that are drawn four times as often, but for
/// lost disks. Of the groups it has only those that hold one of these.
const THEMES: [&[usize]; 4] = [
    // What was dropped, and disks that fail.
    &[9, 10, 12, 14, 15, 16, 34],
    // Quorums while members change and disks fail.
    &[8, 14, 23, 24, 25, 26, 27],
    // Freshness while members change and disks fail.
    &[8, 13, 14, 26, 27, 32, 33],
    // Actors that retire while disks come back.
    &[14, 15, 16, 20, 21, 22],
];

/// The steps of one seed, drawn one after the other.
#[derive(Debug)]
pub struct Schedule {
    rng: ChaCha8Rng,
    setting: Setting,
    cumulative: [u16; Operation::KINDS],
    steps: usize,
    expires: bool,
    mails: u8,
    blind: u8,
    /// Whether logs rebuild what disks lose, at times.
    rebuilds: bool,
}

impl Schedule {
    /// Beside the kinds of operations: damage that a log rebuilds. Without it there is as much that none does.
    pub const REBUILT: usize = Operation::KINDS;

    /// The schedule of a seed.
    ///
    /// A third of the seeds have three replicas and one key, the others three to five and one to
    /// three. There are 60 to 120 steps.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, &[])
    }

    /// The schedule of a seed without some kinds of operations, or without [`Schedule::REBUILT`].
    pub fn with(seed: u64, without: &[usize]) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut bits = Bits(rng.next_u64());
        let small = seed.is_multiple_of(3);
        let theme = match bits.below(8) {
            0..4 => Some(&THEMES[0]),
            theme if !small => THEMES.get(theme - 3),
            _ => None,
        };
        let replicas = if small { 3 } else { 3 + bits.below(3) };
        let keys = if small { 1 } else { 1 + bits.below(3) };
        let mut skew = [0; REPLICAS_MAX];
        let spread = [1, 64, 64, 800][bits.below(4)];
        for offset in &mut skew {
            *offset = bits.below(spread) as i16 - spread as i16 / 2;
        }
        let lww = if bits.below(4) == 0 { 1 + bits.below(7) as u8 } else { 0 };
        let steps = 60 + bits.below(61);
        let mails = [128, 255, 40, 200][bits.below(4)];
        let blind = [0, 30, 90, 20][bits.below(4)];
        let mut weights = Bits(rng.next_u64());
        let mut factors = Bits(rng.next_u64());
        let mut weight = BASE;
        for slot in &mut weight {
            *slot *= [1, 2, 4][factors.below(3)];
        }
        let mut has = [true; GROUPS.len() + 1];
        for (group, is_in) in has.iter_mut().enumerate() {
            let kinds = GROUPS.get(group).copied().unwrap_or(&FRESHNESS);
            *is_in = weights.below(5) < 2;
            if let Some(theme) = theme {
                *is_in = kinds.iter().any(|kind| theme.contains(kind));
            }
            if !*is_in {
                for &kind in kinds {
                    weight[kind] = 0;
                }
            }
        }
        for &kind in theme.copied().unwrap_or(&[]) {
            if !DISKS.contains(&kind) {
                weight[kind] *= 4;
            }
        }
        for &kind in without {
            if let Some(weight) = weight.get_mut(kind) {
                *weight = 0;
            }
        }
        let all = (1u8 << replicas) - 1;
        // Members that come need replicas that are none.
        let outside = if has[8] { bits.below(replicas - 2) } else { 0 };
        let members = all >> outside;
        let mut total = 0;
        for slot in &mut weight {
            total += *slot;
            *slot = total;
        }
        let rebuilds = !without.contains(&Self::REBUILT);
        let setting = Setting { replicas, keys, members, lww: lww & ((1 << keys) - 1), skew };
        Self { rng, setting, cumulative: weight, steps, expires: has[11], mails, blind, rebuilds }
    }

    /// What it is played in.
    pub fn setting(&self) -> Setting {
        self.setting
    }

    /// The next step; `None` at the end.
    pub fn next_operation(&mut self) -> Option<Operation> {
        self.steps = self.steps.checked_sub(1)?;
        let mut bits = Bits(self.rng.next_u64());
        let total = self.cumulative[Operation::KINDS - 1];
        let place = bits.below(usize::from(total)) as u16;
        let kind = self.cumulative.iter().position(|&sum| place < sum);
        let kind = kind.expect("the place is below the sum of all weights");
        Some(self.draw(kind, bits))
    }

    fn draw(&self, kind: usize, mut bits: Bits) -> Operation {
        let at = bits.below(self.setting.replicas) as u8;
        let other = bits.below(self.setting.replicas) as u8;
        let key = bits.below(self.setting.keys) as u8;
        let pick = bits.byte();
        let slot = bits.below(4) as u8;
        let delete = bits.below(3) == 0;
        let flag = bits.below(2) == 0;
        match kind {
            0 => {
                let expires = self.expires && bits.below(2) == 0;
                let mail = bits.byte() < self.mails;
                Operation::Write { at, key, delete, expires, mail, basis: self.basis(&mut bits) }
            }
            1 => Operation::Read { at, key, slot },
            2 => Operation::Send { from: at, pick },
            3 => Operation::Deliver { to: at, pick },
            4 => Operation::Begin { from: at, to: other },
            5 => Operation::Stream { slot: pick % 3, count: 1 + slot, refuse: bits.byte() < 12 },
            6 => Operation::Close { slot: pick % 3 },
            7 => Operation::Abort { slot: pick % 3 },
            8 => Operation::Session { from: at, to: other },
            9 => Operation::DropCertificate { at, pick },
            10 => Operation::DropContext { at, pick },
            11 => Operation::DropStable { at },
            12 => Operation::Sleep { at, pick },
            13 => Operation::Restart { at },
            14 => Operation::Wipe { at },
            15 => Operation::Image { at },
            16 => Operation::Rollback { at },
            17 => {
                let rebuildable = bits.below(2) == 0 && self.rebuilds;
                Operation::Damage { at, pick, leaf: flag, rebuildable }
            }
            18 => Operation::LoseClock { at },
            19 => Operation::Scrub { at },
            20 => Operation::Retire { pick },
            21 => Operation::Report { at },
            22 => Operation::Retired { pick },
            23 => {
                let reach = bits.byte();
                Operation::QuorumWrite { at, key, delete, basis: self.basis(&mut bits), reach }
            }
            24 => Operation::QuorumRead { at, key, slot: slot % 2 },
            25 => Operation::QuorumReply { slot: slot % 2, from: at },
            26 => Operation::ChangeMember { pick },
            27 => Operation::Adopt { at },
            28 => Operation::SessionRead { client: slot % 2, at, key },
            29 => Operation::SessionWrite { client: slot % 2, at, key, delete },
            30 => Operation::Retry { pick, at },
            31 => Operation::Expire { at, pick },
            32 => Operation::Beat { from: at, to: other },
            33 => Operation::Claim { at },
            _ => Operation::Crash { at, pick },
        }
    }

    fn basis(&self, bits: &mut Bits) -> Basis {
        if bits.byte() < self.blind {
            Basis::Empty
        } else if bits.below(2) == 0 {
            Basis::Local
        } else {
            Basis::Token(bits.below(4) as u8)
        }
    }
}

/// Small numbers out of one random word. Each takes a few of its bits; a word is enough for a step.
#[derive(Clone, Copy, Debug)]
struct Bits(u64);

impl Bits {
    /// A number in `[0, bound)`, not quite evenly, for bounds up to some hundreds.
    #[inline]
    fn below(&mut self, bound: usize) -> usize {
        let value = self.0 % bound as u64;
        self.0 /= bound as u64;
        value as usize
    }

    #[inline]
    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }
}
