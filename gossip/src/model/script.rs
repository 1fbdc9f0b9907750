//! Schedules written by hand, for broken rules that chance finds too seldom.

use super::mutant::Mutant;
use super::operation::{Basis, Operation};
use super::world::{REPLICAS_MAX, Setting};

/// A schedule without chance. The rules keep every promise in it; the broken one does not.
#[derive(Clone, Debug)]
pub struct Script {
    /// The broken rule that it is made for.
    pub mutant: Mutant,
    /// What happens.
    pub story: &'static str,
    /// What it is played in.
    pub setting: Setting,
    /// The steps.
    pub operations: Vec<Operation>,
}

impl Script {
    /// All of them.
    pub fn all() -> Vec<Self> {
        vec![
            walk(),
            one_actor(),
            after_gate(),
            departed(),
            not_adopted(),
            drained(),
            forgotten(),
            too_early(),
            half_known(),
            repaired(),
            left_behind(),
        ]
    }
}

fn setting(replicas: usize, members: u8) -> Setting {
    Setting { replicas, keys: 1, members, lww: 0, skew: [0; REPLICAS_MAX] }
}

fn put(at: u8) -> Operation {
    Operation::Write { at, key: 0, delete: false, expires: false, mail: true, basis: Basis::Local }
}

fn session(from: u8, to: u8) -> Operation {
    Operation::Session { from, to }
}

/// Adds a member.
fn add(at: u8) -> Operation {
    Operation::ChangeMember { pick: at << 1 }
}

/// Removes a member.
fn remove(at: u8) -> Operation {
    Operation::ChangeMember { pick: at << 1 | 1 }
}

fn walk() -> Script {
    let basis = Basis::Token(0);
    Script {
        mutant: Mutant::WalkOfDiffering,
        story: "A key is empty on both sides; one has a delete pending whose certificate it dropped.",
        setting: setting(3, 0b111),
        operations: vec![
            put(0),
            Operation::Read { at: 0, key: 0, slot: 0 },
            Operation::Write { at: 1, key: 0, delete: true, expires: false, mail: false, basis },
            Operation::DropCertificate { at: 1, pick: 0 },
            session(1, 2),
            Operation::Deliver { to: 2, pick: 0 },
        ],
    }
}

fn one_actor() -> Script {
    Script {
        mutant: Mutant::BeatOfOneActor,
        story: "A node writes, begins again, and beats.",
        setting: setting(3, 0b111),
        operations: vec![
            put(0),
            Operation::Restart { at: 0 },
            Operation::Beat { from: 0, to: 1 },
            Operation::Beat { from: 2, to: 1 },
            Operation::Claim { at: 1 },
        ],
    }
}

fn after_gate() -> Script {
    let mut operations = vec![put(0), session(0, 4), Operation::Wipe { at: 0 }];
    operations.extend([1, 2, 3].map(|from| session(from, 0)));
    operations.extend([0, 2, 3, 4].map(|from| Operation::Beat { from, to: 1 }));
    operations.push(Operation::Claim { at: 1 });
    Script {
        mutant: Mutant::BeatAfterGate,
        story: "A node writes, one other has it, the node's disk is lost. It recovers from the three \
                that have not, and beats without knowing of its write.",
        setting: setting(5, 0b1_1111),
        operations,
    }
}

fn departed() -> Script {
    let mut operations = vec![put(3), session(3, 1), session(3, 2), remove(3)];
    operations.push(Operation::Adopt { at: 0 });
    operations.extend([1, 2].map(|from| Operation::Beat { from, to: 0 }));
    operations.push(Operation::Claim { at: 0 });
    Script {
        mutant: Mutant::DepartedForgotten,
        story: "A member whose write a majority has is removed; the third has not, and all members \
                beat to it.",
        setting: setting(4, 0b1111),
        operations,
    }
}

fn not_adopted() -> Script {
    let mut operations = vec![add(3), session(0, 3), session(1, 3), add(4)];
    operations.extend([0, 1, 2].map(|from| session(from, 4)));
    let basis = Basis::Local;
    operations.push(Operation::QuorumWrite { at: 0, key: 0, delete: false, basis, reach: 0b10 });
    operations.extend([2, 3, 4].map(|at| Operation::Adopt { at }));
    operations.push(Operation::QuorumRead { at: 2, key: 0, slot: 0 });
    operations.extend([2, 3, 4].map(|from| Operation::QuorumReply { slot: 0, from }));
    Script {
        mutant: Mutant::EpochNotAdopted,
        story: "Two members come one after the other; two of the first three know of neither and \
                acknowledge a write; the other three answer a read.",
        setting: setting(5, 0b111),
        operations,
    }
}

fn forgotten() -> Script {
    let basis = Basis::Empty;
    let delete =
        Operation::Write { at: 0, key: 0, delete: true, expires: false, mail: false, basis };
    let mut operations =
        vec![put(2), Operation::Wipe { at: 2 }, delete, session(0, 1), session(0, 2)];
    operations.extend([0, 1, 2].map(|at| Operation::DropStable { at }));
    operations.push(Operation::Deliver { to: 1, pick: 0 });
    Script {
        mutant: Mutant::LwwStableOnly,
        story: "A write is under way when its node's disk is lost. A later delete becomes stable and \
                is forgotten; then the write arrives.",
        setting: Setting { lww: 1, ..setting(3, 0b111) },
        operations,
    }
}

fn too_early() -> Script {
    let mut setting = Setting { lww: 1, ..setting(3, 0b111) };
    setting.skew[1] = -400;
    let basis = Basis::Local;
    let delete =
        Operation::Write { at: 0, key: 0, delete: true, expires: false, mail: false, basis };
    let mut operations = vec![delete, session(0, 1), session(0, 2)];
    operations.extend([0, 1, 2].map(|at| Operation::DropStable { at }));
    operations.extend([Operation::Wipe { at: 1 }, put(1)]);
    Script {
        mutant: Mutant::LwwWritesAtOnce,
        story: "A delete is stable and forgotten; a node with a slow clock loses its disk, and with it the \
                highest stamp that it had seen, and writes.",
        setting,
        operations,
    }
}

fn half_known() -> Script {
    let basis = Basis::Token(0);
    let mut operations = vec![
        put(0),
        Operation::Deliver { to: 1, pick: 0 },
        Operation::Read { at: 0, key: 0, slot: 0 },
        Operation::Write { at: 2, key: 0, delete: false, expires: true, mail: true, basis },
        Operation::Deliver { to: 3, pick: 1 },
        Operation::DropContext { at: 3, pick: 0 },
    ];
    operations.extend([Operation::Scrub { at: 0 }; 12]);
    operations.extend([
        Operation::Expire { at: 3, pick: 0 },
        Operation::Deliver { to: 0, pick: 2 },
        Operation::Deliver { to: 1, pick: 2 },
        Operation::DropCertificate { at: 0, pick: 0 },
        session(0, 2),
        session(2, 1),
    ]);
    Script {
        mutant: Mutant::WalkDropWithoutHorizon,
        story: "A value supersedes another and expires where its context is not known any more. A \
                replica that knows of the expiry only makes the value's own node drop it.",
        setting: setting(4, 0b1111),
        operations,
    }
}

fn repaired() -> Script {
    let basis = Basis::Local;
    let mut operations = vec![
        Operation::Write { at: 0, key: 0, delete: false, expires: false, mail: false, basis },
        Operation::Restart { at: 0 },
        Operation::QuorumRead { at: 1, key: 0, slot: 0 },
        Operation::QuorumReply { slot: 0, from: 0 },
        Operation::Wipe { at: 0 },
        Operation::Retire { pick: 0 },
    ];
    operations.extend([0, 1, 2].map(|at| Operation::Report { at }));
    operations.push(Operation::QuorumReply { slot: 0, from: 1 });
    operations.push(Operation::Retired { pick: 0 });
    Script {
        mutant: Mutant::RepairOfRetiring,
        story: "A member answers a read and loses its disk. Nobody has what it answered when all report what \
                they hold of its former actor; then the read is joined, and repairs with it.",
        setting: setting(3, 0b111),
        operations,
    }
}

fn left_behind() -> Script {
    Script {
        mutant: Mutant::KeptForgotten,
        story: "The only replica that has a value drops its context and loses its clock.",
        setting: setting(3, 0b111),
        operations: vec![
            Operation::Write {
                at: 0,
                key: 0,
                delete: false,
                expires: false,
                mail: false,
                basis: Basis::Local,
            },
            Operation::DropContext { at: 0, pick: 0 },
            Operation::LoseClock { at: 0 },
        ],
    }
}

fn drained() -> Script {
    let basis = Basis::Local;
    let mut operations = vec![
        Operation::QuorumWrite { at: 0, key: 0, delete: false, basis, reach: 0b110 },
        remove(0),
    ];
    operations.extend([1, 2, 3, 4].map(|at| Operation::Adopt { at }));
    operations.push(remove(1));
    operations.extend([2, 3, 4].map(|at| Operation::Adopt { at }));
    operations.push(Operation::QuorumRead { at: 3, key: 0, slot: 0 });
    operations.extend([3, 4].map(|from| Operation::QuorumReply { slot: 0, from }));
    Script {
        mutant: Mutant::DrainToOne,
        story: "Three of five have a quorum write; two of them leave, each once another has it; the \
                two that never had it answer a read.",
        setting: setting(5, 0b1_1111),
        operations,
    }
}
