use super::*;
use crate::operation::Call;

fn op(process: u64, call: Call, times: (u64, u64), outcome: Outcome) -> Operation {
    let mut operation = Operation::invoked(process, call, times.0);
    operation.return_ns = Some(times.1);
    operation.outcome = outcome;
    operation
}

fn put(value: &str, times: (u64, u64), revision: u64) -> Operation {
    let mut operation = op(0, Call::write("k", value), times, Outcome::Ok);
    operation.revision = Some(revision);
    operation
}

fn get(value: Option<(&str, u64)>, times: (u64, u64), at: u64) -> Operation {
    let mut operation = op(1, Call::read("k"), times, Outcome::Ok);
    operation.value = value.map(|(value, _)| value.into());
    operation.revision = value.map(|(_, revision)| revision);
    operation.at_revision = Some(at);
    operation
}

fn lost(call: Call, invoke: u64) -> Operation {
    op(7, call, (invoke, invoke + 1), Outcome::Info)
}

fn cas(from: Option<&str>, to: &str, times: (u64, u64), revision: u64) -> Operation {
    let call = Call::cas("k", from.map(Value::from), to);
    let mut operation = op(2, call, times, Outcome::Ok);
    operation.revision = Some(revision);
    operation
}

fn valid(history: &[Operation]) {
    assert_eq!(RevisionChecker.check(history), Verdict::Valid);
}

fn invalid(history: &[Operation], sentence: &str) {
    let verdict = RevisionChecker.check(history);
    assert!(verdict.is_invalid() && verdict.to_string().contains(sentence), "{verdict}");
}

#[test]
fn good_histories_pass() {
    valid(&[]);
    valid(&[put("a", (0, 1), 2), get(Some(("a", 2)), (2, 3), 2), get(None, (0, 1), 1)]);
    // Concurrent operations may take either order.
    valid(&[put("a", (0, 9), 3), put("b", (0, 9), 2), get(Some(("b", 2)), (0, 9), 2)]);
    valid(&[put("a", (0, 1), 2), cas(Some("a"), "b", (2, 3), 5)]);
    // An unknown write and an unknown delete fill in.
    let unknown = [lost(Call::write("k", "x"), 2), lost(Call::delete("k"), 2)];
    let after = [
        put("a", (0, 1), 2),
        get(Some(("x", 3)), (3, 4), 3),
        get(None, (5, 6), 4),
        cas(None, "b", (7, 8), 6),
    ];
    valid(&[&unknown[..], &after[..]].concat());
}

#[test]
fn revisions_are_unique_but_for_transactions() {
    invalid(&[put("a", (0, 9), 2), put("b", (0, 9), 2)], "two writes have revision 2");
    let mut other = put("b", (0, 9), 2);
    other.key = "other".to_owned();
    valid(&[put("a", (0, 9), 2), other.clone()]);
    other.process = 5;
    invalid(&[put("a", (0, 9), 2), other], "two writes have revision 2");
}

#[test]
fn real_time_is_respected() {
    invalid(&[put("a", (0, 1), 3), put("b", (2, 3), 2)], "was given revision 2");
    invalid(&[put("a", (0, 1), 3), get(None, (2, 3), 2)], "looked at revision 2");
    invalid(&[get(None, (0, 1), 3), put("a", (2, 3), 3)], "was given revision 3");
    invalid(
        &[put("a", (0, 1), 3), lost(Call::write("k", "x"), 2), get(Some(("x", 2)), (0, 9), 2)],
        "was given revision 2",
    );
    // A delete that found nothing proves a revision as well.
    let mut nothing = op(3, Call::delete("k"), (0, 1), Outcome::Ok);
    nothing.at_revision = Some(5);
    invalid(&[nothing, get(None, (2, 3), 4)], "looked at revision 4");
}

#[test]
fn reads_see_the_newest_write() {
    let writes = [put("a", (0, 1), 2), put("b", (2, 3), 3)];
    let with = |operation| [&writes[..], &[operation]].concat();
    invalid(&with(get(Some(("a", 2)), (4, 5), 3)), "must see the newest write up to revision 3");
    invalid(&with(get(Some(("b", 2)), (1, 5), 2)), "which has revision 2");
    invalid(&with(get(None, (4, 5), 3)), "must see the newest write");
    invalid(&with(get(Some(("b", 3)), (1, 5), 2)), "above the one it looked at");
    invalid(&with(cas(Some("a"), "c", (4, 5), 4)), "must see the newest write");
    valid(&with(get(Some(("a", 2)), (1, 5), 2)));
}

#[test]
fn unknown_writes_explain_only_what_they_can() {
    let unknown = lost(Call::write("k", "x"), 2);
    invalid(&[get(Some(("x", 3)), (0, 1), 3), unknown.clone()], "which no write can have made");
    invalid(
        &[unknown.clone(), get(Some(("x", 3)), (4, 5), 3), get(Some(("x", 4)), (6, 7), 4)],
        "saw revision 4, which no write can have made",
    );
    let failed = Operation { outcome: Outcome::Fail, ..unknown.clone() };
    invalid(&[failed, get(Some(("x", 3)), (4, 5), 3)], "that value belongs to write k \"x\" [fail");
    invalid(&[get(Some(("x", 3)), (4, 5), 3)], "no operation wrote that value");
    // Deleted by an unknown delete, and back without a write.
    let deleted = [
        put("a", (0, 1), 2),
        lost(Call::delete("k"), 2),
        get(None, (4, 5), 3),
        get(Some(("a", 2)), (6, 7), 3),
    ];
    invalid(&deleted, "saw again what was gone");
    // One delete explains one disappearance.
    let twice = [
        put("a", (0, 1), 2),
        lost(Call::delete("k"), 2),
        get(None, (4, 5), 3),
        put("b", (6, 7), 4),
        get(None, (8, 9), 5),
    ];
    invalid(&twice, "must see the newest write up to revision 5");
}

#[test]
fn one_unknown_write_explains_one_appearance() {
    let unknown = lost(Call::write("k", "x"), 2);
    let history = [
        put("y", (0, 1), 2),
        unknown.clone(),
        cas(Some("x"), "a", (4, 5), 4),
        cas(Some("x"), "b", (6, 7), 6),
    ];
    invalid(&history, "must see the newest write up to revision 5");
    valid(&[&history[..], std::slice::from_ref(&unknown)].concat());
    // Whoever named the revision has used it up.
    let history = [put("y", (0, 1), 2), unknown, get(Some(("x", 3)), (4, 5), 3)];
    let again = [put("a", (6, 7), 4), cas(Some("x"), "b", (8, 9), 6)];
    invalid(&[&history[..], &again[..]].concat(), "must see the newest write up to revision 5");
}

#[test]
fn an_unknown_cas_finds_what_it_expects() {
    let unknown = |from: &str| lost(Call::cas("k", Some(from.into()), "x"), 2);
    let seen = get(Some(("x", 3)), (4, 5), 3);
    valid(&[put("y", (0, 1), 2), unknown("y"), seen.clone()]);
    let history = [put("y", (0, 1), 2), unknown("z"), seen.clone()];
    invalid(&history, "must see the newest write up to revision 2");
    let Verdict::Invalid(violation) = RevisionChecker.check(&history) else { panic!() };
    assert!(RevisionChecker.check(&violation.operations).is_invalid());
    invalid(&[unknown("z"), seen.clone()], "where nothing had been written");
    // One of them may have been the reason.
    valid(&[put("y", (0, 1), 2), unknown("z"), unknown("y"), seen]);
    // The same where only a later cas saw it.
    let later = cas(Some("x"), "a", (4, 5), 5);
    valid(&[put("y", (0, 1), 2), unknown("y"), later.clone()]);
    invalid(&[put("y", (0, 1), 2), unknown("z"), later.clone()], "must see the newest write");
    invalid(&[put("y", (0, 1), 2), unknown("x"), later.clone()], "must see the newest write");
    let other = lost(Call::write("k", "z"), 2);
    valid(&[put("y", (0, 1), 2), unknown("z"), other, later]);
}

#[test]
fn a_revision_has_one_value() {
    let unnamed =
        |value: &str, times, at| Operation { revision: None, ..get(Some((value, 0)), times, at) };
    let unknown = lost(Call::write("k", "x"), 0);
    let history = [unknown.clone(), unnamed("x", (1, 2), 3), get(None, (1, 9), 3)];
    invalid(&history, "two looked at revision 3 and saw different values");
    // From one revision to the next it takes a write.
    valid(&[unknown.clone(), get(None, (1, 9), 2), unnamed("x", (1, 9), 3)]);
    let history = [unknown, unnamed("x", (1, 9), 3), get(None, (1, 9), 4)];
    invalid(&history, "and nothing was deleted");
    valid(&[&history[..], &[lost(Call::delete("k"), 0)]].concat());
}

#[test]
fn lists_are_values() {
    let list: Value = ["x"].into_iter().collect();
    let mut write = put("", (0, 1), 2);
    write.value = Some(list.clone());
    let mut read = get(Some(("", 2)), (2, 3), 2);
    read.value = Some(list);
    valid(&[write.clone(), read.clone()]);
    invalid(&[write, get(None, (2, 3), 2)], "must see the newest write");
    read.revision = None;
    invalid(&[read], "where nothing had been written");
}

#[test]
fn the_highest_revision_is_one_like_others() {
    let last = put("a", (0, 1), u64::MAX);
    valid(&[last.clone(), get(Some(("a", u64::MAX)), (2, 3), u64::MAX)]);
    invalid(&[last, put("b", (2, 3), 2)], "was given revision 2");
}

#[test]
fn a_transaction_writes_a_key_once() {
    let mut other = put("b", (0, 9), 2);
    other.key = "other".to_owned();
    let history = [put("a", (0, 9), 2), other, put("c", (0, 9), 2)];
    invalid(&history, "two writes have revision 2");
}

#[test]
fn histories_without_revisions_are_not_judged() {
    let verdict = RevisionChecker.check(&[op(0, Call::write("k", "a"), (0, 1), Outcome::Ok)]);
    assert!(matches!(verdict, Verdict::Unknown { .. }), "{verdict}");
}
