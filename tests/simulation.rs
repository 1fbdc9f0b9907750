//! Seeds of the simulation in the default test run.

use std::ops::Range;
use std::time::Instant;

use proto::Code;
use tests::sim::{self, Counters, Emphasis, Event, FAULTS_MIN, Mutant, OPERATIONS, Plan, Trio};

/// Seeds of the default run; `make sim SEEDS=N` runs more.
const SEEDS: u64 = 200;
/// Seeds within which a planted bug must be found.
const MUTANT_SEEDS: u64 = 200;
/// Seeds of a test with an emphasis; far from those of the default run.
const EMPHASIS_SEEDS: Range<u64> = 50_000..50_015;

#[test]
fn seeds_hold_every_promise() {
    // Some of them once showed a bug of the node:
    // 0: a new member stayed a learner: the data group took one step and called it the change.
    // 6: a received export was dropped, and with it the node's own at the same index.
    // 8: an export ended on a state that a snapshot had replaced since it began.
    // 63: a removed member led group 0, and waited for a data group that it had left.
    // 83: a removed member led the data group and never heard that it was to leave.
    // 106: a damaged node waited for ever for an export that was there already.
    // 124: a forwarded write was refused, and its second copy executed.
    let begin = Instant::now();
    let outcomes = sim::run_many(0, SEEDS, 2, None);
    let elapsed = begin.elapsed().as_secs_f64();
    let mut total = Counters::default();
    for outcome in &outcomes {
        assert!(outcome.violations.is_empty(), "seed {}: {:#?}", outcome.seed, outcome.violations);
        let counters = &outcome.counters;
        let operations = counters.operations;
        assert!(operations >= u64::from(OPERATIONS), "seed {}: {operations}", outcome.seed);
        assert!(counters.faults >= FAULTS_MIN, "seed {}: {}", outcome.seed, counters.faults);
        total.merge(counters);
    }
    let simulated = total.simulated as f64 / 1e6;
    println!("{total}{simulated:.0} simulated seconds in {elapsed:.1} s");
    assert!(total.missing().is_empty(), "events that never occurred: {:?}", total.missing());
    assert!(total.acknowledged * 2 > total.operations, "most operations must get through: {total}");
    for outcome in outcomes.iter().step_by(100) {
        let again = sim::run(Plan::new(outcome.seed));
        assert_eq!(again, *outcome, "a seed replays byte for byte");
    }
}

/// Runs seeds with more of these faults; every promise must hold, and each event must occur.
fn hold(emphasis: Emphasis, events: &[Event]) {
    hold_over(EMPHASIS_SEEDS, emphasis, events);
}

/// The same over other seeds, for events that are rare.
fn hold_over(seeds: Range<u64>, emphasis: Emphasis, events: &[Event]) {
    let mut total = Counters::default();
    for seed in seeds {
        let outcome = sim::run(Plan { emphasis, ..Plan::new(seed) });
        assert!(outcome.violations.is_empty(), "seed {seed}: {:#?}", outcome.violations);
        total.merge(&outcome.counters);
    }
    for event in events {
        assert!(total.get(*event) > 0, "{event:?} never occurred: {total}");
    }
}

#[test]
fn b03_b27_power_losses_of_one_some_and_all_lose_nothing_acknowledged() {
    let events = [Event::Crash, Event::CrashOfAll, Event::LostUnsyncedWrite, Event::Replayed];
    hold(Emphasis::Power, &events);
}

#[test]
fn b13_reads_stay_linearizable_over_pauses_of_processes() {
    hold(Emphasis::Pause, &[Event::Pause, Event::FollowerRead, Event::LeaderChange]);
}

#[test]
fn b18_b24_failovers_show_everything_on_every_node() {
    hold(Emphasis::Leader, &[Event::Crash, Event::LeaderChange, Event::FollowerRead]);
}

#[test]
fn b25_b31_b44_members_are_replaced_under_partitions_kills_and_pauses() {
    let events = [
        Event::MemberRemoved,
        Event::MemberJoined,
        Event::Partition,
        Event::Crash,
        Event::Pause,
        Event::SnapshotInstalled,
    ];
    hold(Emphasis::Members, &events);
}

#[test]
fn b28_b29_damage_of_a_minority_is_found_and_repaired() {
    let events = [Event::Damage, Event::DamageFound, Event::Repaired, Event::CrashInRepair];
    hold(Emphasis::Damage, &events);
}

#[test]
fn b32_keyspaces_survive_any_loss_of_state_directories() {
    let events = [
        Event::StateLost,
        Event::KeyspaceCreated,
        Event::KeyspaceRemoved,
        Event::Compaction,
        Event::LogFreed,
    ];
    hold(Emphasis::State, &events);
}

#[test]
fn b33_a_full_disk_loses_nothing_and_recovers_by_itself() {
    // Most logs have room again only after a crash.
    let events = [Event::DiskFull, Event::DiskFullOver, Event::Crash];
    hold_over(50_000..50_040, Emphasis::Full, &events);
}

/// Writes to a node until the disk of another one, which it may be itself, is found full.
fn write_until_full(trio: &mut Trio, to: usize, full: usize) {
    for number in 0..1_000 {
        if trio.summary(full).read_only {
            return;
        }
        // What finds the disk full may be refused or stay open.
        let _ = trio.write(to, number);
    }
    panic!("the disk of {full} never became full");
}

fn read_on(trio: &mut Trio, hosts: impl IntoIterator<Item = usize>) {
    for host in hosts {
        let read = trio.read(host);
        assert!(read.is_ok(), "read on {host}: {read:?}");
    }
}

#[test]
fn b33_two_full_disks_end_no_reads() {
    let mut trio = Trio::led_by(1);
    trio.fill(0);
    write_until_full(&mut trio, 1, 0);
    // The first one has dropped these.
    for number in 0..20 {
        trio.write(1, number).expect("two of three have room");
    }
    trio.fill(1);
    write_until_full(&mut trio, 1, 1);
    trio.until("the node with room leads", |trio| trio.summary(2).groups_led == 2);
    // The first one lacks what it has dropped, so it cannot answer.
    read_on(&mut trio, [1, 2]);
    trio.until("the node with room refuses writes, for no majority takes them", |trio| {
        trio.write(2, 1).is_err_and(|refused| refused.code == Code::ReadOnly)
    });
    read_on(&mut trio, [1, 2]);
    trio.empty(0);
    trio.until("writes go on", |trio| trio.write(2, 2).is_ok());
}

#[test]
fn b33_three_full_disks_end_no_reads() {
    let mut trio = Trio::led_by(1);
    (0..3).for_each(|host| trio.fill(host));
    for full in 0..3 {
        write_until_full(&mut trio, 1, full);
    }
    read_on(&mut trio, 0..3);
    for leader in [2, 0] {
        trio.until("leadership moves", |trio| {
            trio.move_leader(leader);
            trio.summary(leader).groups_led == 2
        });
        read_on(&mut trio, 0..3);
        let refused = trio.write(leader, 1).expect_err("nobody has room");
        assert_eq!(refused.code, Code::ReadOnly, "{refused}");
    }
    (0..3).for_each(|host| trio.empty(host));
    trio.until("writes go on", |trio| trio.write(0, 2).is_ok());
}

/// A node without room has written the entry, but its acknowledgement was lost, and nobody else is there.
#[test]
fn b33_a_full_disk_acknowledges_again_what_it_holds() {
    let mut trio = Trio::led_by(1);
    trio.cut(1, 2);
    trio.cut(0, 1);
    let written = trio.begin_write(1, 1);
    trio.fill(0);
    let full = (2..1_000).find(|number| {
        trio.begin_write(1, *number);
        trio.summary(0).read_only
    });
    assert!(full.is_some(), "its disk is found full");
    trio.mend(0, 1);
    assert!(trio.answer(written).is_ok(), "two of three hold it");
}

#[test]
fn a_follower_that_fell_behind_gets_a_snapshot_whatever_crashes() {
    let events = [
        Event::SnapshotInstalled,
        Event::ExportWritten,
        Event::LogFreed,
        Event::CrashInExport,
        Event::CrashInInstall,
    ];
    // An install is short: a crash hits one in about ten seeds.
    hold_over(50_000..50_080, Emphasis::Straggler, &events);
}

#[test]
fn a_store_is_renewed_whatever_crashes_and_whatever_is_installed_meanwhile() {
    let events = [Event::Renewed, Event::RenewalGivenUp, Event::CrashInRenewal];
    // Of a hundred renewals, one is given up.
    hold_over(50_050..50_080, Emphasis::Mixed, &events);
}

/// Seeds that once showed a bug of the node, and how.
#[test]
fn seeds_that_found_bugs_stay_good() {
    // Those below SEEDS run in `seeds_hold_every_promise`.
    let half_deleted = "a range delete came upon a dead version that was half deleted";
    let found = [
        (1516, "a removal came late, and removed the node that had been added in the meantime"),
        (6403, half_deleted),
        (6750, half_deleted),
    ];
    for (seed, how) in found {
        let outcome = sim::run(Plan::new(seed));
        assert!(outcome.violations.is_empty(), "{how}: {:#?}", outcome.violations);
    }
}

/// Finds the planted bug or fails.
fn must_find(mutant: Mutant) {
    let found = (0..MUTANT_SEEDS).find(|seed| {
        let plan = Plan { mutant: Some(mutant), ..Plan::new(*seed) };
        !sim::run(plan).violations.is_empty()
    });
    let seed = found.unwrap_or_else(|| panic!("{mutant} was not found in {MUTANT_SEEDS} seeds"));
    println!("{mutant}: found at seed {seed}");
}

#[test]
fn every_planted_bug_stands_in_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/mutants.md");
    let table = std::fs::read_to_string(path).unwrap();
    for mutant in Mutant::ALL {
        let row = table.lines().find(|line| line.starts_with(&format!("| `{mutant}` |")));
        let row = row.unwrap_or_else(|| panic!("{mutant} is not in the table: make mutants"));
        assert!(row.contains(mutant.about()) && row.contains(mutant.catalogue()), "{row}");
    }
}

#[test]
fn b03_b27_ack_before_sync_is_found() {
    must_find(Mutant::AckBeforeSync);
}

#[test]
fn forgotten_vote_is_found() {
    must_find(Mutant::VoteForgotten);
}

#[test]
fn b01_applied_index_apart_from_its_effects_is_found() {
    must_find(Mutant::AppliedIndexApart);
}

#[test]
fn read_without_quorum_is_found() {
    must_find(Mutant::ReadWithoutQuorum);
}

#[test]
fn b22_double_apply_is_found() {
    must_find(Mutant::DoubleApply);
}

#[test]
fn log_freed_before_its_export_is_found() {
    must_find(Mutant::FreedBeforeExport);
}

#[test]
fn install_that_is_not_logged_is_found() {
    must_find(Mutant::InstallNotLogged);
}

#[test]
fn snapshot_above_its_content_is_found() {
    must_find(Mutant::SnapshotAboveContent);
}

#[test]
fn b22_export_without_outcomes_is_found() {
    must_find(Mutant::OutcomesMissing);
}

#[test]
fn b29_damage_taken_for_a_torn_tail_is_found() {
    must_find(Mutant::DamageTakenForTear);
}

#[test]
fn b28_repair_by_an_unconfirmed_leader_is_found() {
    must_find(Mutant::RepairUnconfirmed);
}

#[test]
fn b44_wiped_machine_under_its_old_identity_is_found() {
    must_find(Mutant::WipedKeepsIdentity);
}

#[test]
fn b33_acknowledgement_on_a_full_disk_is_found() {
    must_find(Mutant::AckWhenFull);
}

#[test]
fn b13_read_index_that_is_too_low_is_found() {
    must_find(Mutant::ReadIndexTooLow);
}

#[test]
fn b28_repair_that_forgets_the_vote_is_found() {
    must_find(Mutant::RepairForgetsVote);
}

#[test]
fn compaction_of_one_node_alone_is_found() {
    must_find(Mutant::CompactedApart);
}

#[test]
fn b20_removed_node_that_is_still_counted_is_found() {
    must_find(Mutant::RemovedStillCounted);
}

#[test]
fn b32_keyspace_id_that_is_used_again_is_found() {
    must_find(Mutant::KeyspaceIdReused);
}

#[test]
fn b13_b46_read_of_an_unconfirmed_leader_is_found() {
    must_find(Mutant::UnconfirmedLeader);
}

#[test]
fn b65_write_that_is_repeated_after_its_outcome_was_evicted_is_found() {
    must_find(Mutant::FenceSkipped);
}

#[test]
fn b27_sync_that_is_reported_and_not_done_is_found() {
    must_find(Mutant::SyncSkipped);
}

#[test]
fn b13_answer_to_an_old_question_is_found() {
    must_find(Mutant::QuestionReused);
}

#[test]
fn b09_compaction_that_drops_a_version_too_many_is_found() {
    must_find(Mutant::CompactionTooDeep);
}

#[test]
fn b19_b26_switch_to_a_snapshot_that_is_not_synced_is_found() {
    must_find(Mutant::SnapshotUnsynced);
}

#[test]
fn b35_joint_configuration_of_which_half_is_forgotten_is_found() {
    must_find(Mutant::JointHalfForgotten);
}

#[test]
fn b28_acknowledgement_of_entries_that_are_not_there_is_found() {
    must_find(Mutant::AcksUnwritten);
}

#[test]
fn renewal_that_falls_short_is_found() {
    must_find(Mutant::RenewalFallsShort);
}
