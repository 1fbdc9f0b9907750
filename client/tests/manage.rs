//! The commands of operators: keyspaces, members, single nodes.

mod desk;
mod fake;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::cli::{self, Terminal};
use desk::{Captured, Ran, Seat, Setup, json, run_in, timeless, words};
use fake::Act;
use proto::{Applied, Code, Failure, v1};

fn changes(setup: &Setup) -> Vec<v1::ChangeMemberRequest> {
    setup.cluster.shared.lock().unwrap().operators.changes.clone()
}

fn calls(setup: &Setup) -> Vec<String> {
    setup.cluster.shared.lock().unwrap().operators.calls.clone()
}

fn learner(name: &str, client_address: &str) -> v1::MemberView {
    let member = v1::Member {
        id: 9,
        name: name.into(),
        client_address: client_address.into(),
        peer_address: "10.0.0.4:7611".into(),
    };
    let (role, state) = ("added".into(), "unreachable".into());
    v1::MemberView { member: Some(member), role, state, promote: true, ..Default::default() }
}

#[test]
fn keyspaces_are_created_shown_and_listed() {
    let setup = Setup::new(1);
    let create = "keyspace create orders --kind linearizable --history 7days --max-bytes 2GiB";
    setup.pipe(create).prints("");
    let shown = "name\torders\nkind\tlinearizable\nstate\tready\nrev\t1204\ncompacted\t7\nkeys\t3\n\
                 bytes\t65536\nhistory\t7days\nmax_keys\t0\nmax_bytes\t2147483648\npolicy\t-\n";
    setup.pipe("keyspace show orders").prints(shown);
    setup.person("keyspace show orders").prints(
        "name       orders\nkind       linearizable\nstate      ready\nrev        1 204\n\
         compacted  7\nkeys       3\nbytes      64.0 KiB\nhistory    7days\nmax_keys   no limit\n\
         max_bytes  2.0 GiB\npolicy     -\n",
    );
    let made = setup.person("keyspace create a --kind linearizable");
    assert_eq!((made.exit, made.text(), &*made.err), (0, "", "ok  created keyspace \"a\"\n"));
    setup.pipe("keyspace ls").prints(
        "a\tlinearizable\tready\t1204\t7\t3\t65536\tdefault\t0\t0\t-\n\
         orders\tlinearizable\tready\t1204\t7\t3\t65536\t7days\t0\t2147483648\t-\n",
    );
    let table = setup.person("keyspace ls");
    assert!(table.text().starts_with("NAME    KIND          STATE  REV    COMPACTED"), "{table:?}");

    let found = json(setup.pipe("keyspace ls -o json").text());
    assert_eq!((&found["schema"], &found["keyspaces"][1]["name"]), (&1.into(), &"orders".into()));
    assert_eq!(found["keyspaces"][1]["history_seconds"], 604_800);
    let found = json(setup.pipe("keyspace show orders -o json").text());
    assert_eq!((&found["schema"], &found["max_bytes"]), (&1.into(), &2_147_483_648_u64.into()));
    assert_eq!((&found["keys"], &found["rev"]), (&3.into(), &1_204.into()));
    let lines = setup.pipe("keyspace ls -o jsonl");
    assert_eq!(lines.text().lines().count(), 2);
    assert!(lines.text().lines().all(|line| json(line)["schema"] == 1), "{lines:?}");
    let found = json(setup.pipe("keyspace create b --kind linearizable -o json").text());
    assert_eq!((&found["name"], &found["state"]), (&"b".into(), &"ready".into()));
    assert!(found.get("keys").is_none());
}

#[test]
fn eventual_keyspaces_show_their_kind_and_policy() {
    let setup = Setup::new(1);
    setup.pipe("keyspace create carts --kind eventual").prints("");
    setup.pipe("keyspace create seen --kind eventual --policy lww").prints("");
    setup.pipe("keyspace ls").prints(
        "carts\teventual\tready\t0\t0\t0\t0\t-\t0\t0\tsiblings\n\
         seen\teventual\tready\t0\t0\t0\t0\t-\t0\t0\tlww\n",
    );
    let shown = setup.person("keyspace show seen");
    assert!(shown.text().contains("kind       eventual\n"), "{shown:?}");
    assert!(shown.text().ends_with("policy     lww\n"), "{shown:?}");
    let found = json(setup.pipe("keyspace show carts -o json").text());
    assert_eq!((&found["kind"], &found["policy"]), (&"eventual".into(), &"siblings".into()));
    setup.pipe("keyspace create a --kind linearizable").prints("");
    assert!(json(setup.pipe("keyspace show a -o json").text()).get("policy").is_none());
}

#[test]
fn a_change_of_a_keyspace_keeps_what_is_not_named() {
    let setup = Setup::new(1);
    setup.pipe("keyspace create a --kind linearizable --history 5000 --max-keys 10").prints("");
    setup.pipe("keyspace set a --max-bytes 64KiB").prints("");
    let found = json(setup.pipe("keyspace show a -o json").text());
    let settings = ["history_revisions", "history_seconds", "max_keys", "max_bytes"];
    assert_eq!(settings.map(|name| found[name].as_u64().unwrap()), [5_000, 0, 10, 65_536]);
    setup.pipe("keyspace set a --history 1h --max-keys 0").prints("");
    let found = json(setup.pipe("keyspace show a -o json").text());
    assert_eq!(settings.map(|name| found[name].as_u64().unwrap()), [0, 3_600, 0, 65_536]);
    setup.pipe("keyspace set a").exit_is(2);
    setup.pipe("keyspace set nope --max-keys 1").exit_is(3);
    assert_eq!(calls(&setup), ["create a", "set a", "set a"]);
}

#[test]
fn a_change_of_a_keyspace_does_not_undo_that_of_somebody_else() {
    let setup = Setup::new(1);
    let race = |times| setup.cluster.shared.lock().unwrap().operators.raced_sets = times;
    setup.pipe("keyspace create a --kind linearizable --max-keys 10").prints("");
    race(2);
    setup.pipe("keyspace set a --max-bytes 64KiB").prints("");
    let found = json(setup.pipe("keyspace show a -o json").text());
    assert_eq!((&found["max_keys"], &found["max_bytes"]), (&12.into(), &65_536.into()));
    // One that never comes through gives up, and says that it did nothing.
    race(100);
    let refused = setup.pipe("keyspace set a --max-bytes 1KiB");
    assert!(refused.exit_is(4).err.starts_with("error[KV1018]"), "{refused:?}");
    assert!(refused.err.contains("NOT applied"), "{refused:?}");
    let found = json(setup.pipe("keyspace show a -o json").text());
    assert_eq!(found["max_bytes"], 65_536);
}

#[test]
fn refusals_of_keyspaces_keep_their_codes() {
    let setup = Setup::new(1);
    setup.pipe("keyspace create a --kind linearizable").prints("");
    for (line, exit, code) in [
        ("keyspace create a --kind linearizable", 4, "KV1012"),
        ("keyspace create b --kind eventual --history 7days", 8, "KV1019"),
        ("keyspace create b --kind eventual --max-keys 9", 8, "KV1019"),
        ("keyspace create b --kind linearizable --policy lww", 8, "KV1019"),
        ("keyspace create b --kind eventual --merge counter", 8, "KV1019"),
        ("keyspace show nope", 3, "KV1008"),
        ("keyspace rm nope --yes", 3, "KV1008"),
    ] {
        let ran = setup.pipe(line);
        assert_eq!((ran.exit, ran.text()), (exit, ""), "{line}: {ran:?}");
        assert!(ran.err.starts_with(&format!("error[{code}]: ")), "{line}: {ran:?}");
    }
    let exists = setup.pipe("keyspace create a --kind linearizable");
    assert!(exists.err.contains("NOT applied"), "{exists:?}");
    for line in [
        "keyspace create a",
        "keyspace create a --kind strong",
        "keyspace create a --kind eventual --policy first",
        "keyspace create a --kind linearizable --max-bytes 1KB",
        "keyspace create a --kind linearizable --history soon",
        "keyspace",
    ] {
        setup.pipe(line).exit_is(2);
    }
}

#[test]
fn removing_a_keyspace_needs_a_yes() {
    let setup = Setup::new(1);
    setup.pipe("keyspace create a --kind linearizable").prints("");
    let refused = setup.pipe("keyspace rm a");
    assert_eq!((refused.exit, refused.text()), (2, ""));
    assert!(refused.err.contains("keyspace \"a\"") && refused.err.contains("--yes"), "{refused:?}");
    let no_input = setup.run(words("keyspace rm a --no-input"), Seat::Person, b"y\n");
    no_input.exit_is(2);
    let no = setup.run(words("keyspace rm a"), Seat::Person, b"n\n");
    no.exit_is(1);
    assert!(no.err.contains("removing keyspace \"a\" and all it holds [y/N]"), "{no:?}");
    assert_eq!(calls(&setup), ["create a"]);
    setup.run(words("keyspace rm a"), Seat::Person, b"y\n").exit_is(0);
    setup.pipe("keyspace create a --kind linearizable").prints("");
    setup.pipe("keyspace rm a --yes").prints("");
    setup.pipe("keyspace show a").exit_is(3);
}

#[test]
fn a_lost_answer_to_a_change_exits_6_and_says_where_to_look() {
    let setup = Setup::new(2);
    for (line, look) in [
        ("keyspace create a --kind linearizable", "kv keyspace show a"),
        ("keyspace rm a --yes", "kv keyspace show a"),
        ("cluster add n4=10.0.0.4:7611", "kv cluster members"),
        ("cluster move-leader n2", "kv cluster members"),
    ] {
        setup.cluster.nodes[0].next([Act::ServeThenHang]);
        let ran = setup.pipe(&format!("{line} --timeout 1s"));
        assert_eq!((ran.exit, ran.text()), (6, ""), "{line}: {ran:?}");
        assert!(ran.err.contains("state: UNKNOWN"), "{ran:?}");
        let tries = format!("  try:   {look}      or kv explain KV1204\n");
        assert!(ran.err.ends_with(&tries), "{ran:?}");
    }
    assert_eq!(calls(&setup), ["create a", "remove a", "move leader to n2"]);
    assert_eq!(changes(&setup).len(), 1);
}

#[test]
fn members_are_listed_with_the_change_under_way() {
    let setup = Setup::new(2);
    let [one, two] = [0, 1].map(|at| setup.cluster.nodes[at].address.clone());
    {
        let mut shared = setup.cluster.shared.lock().unwrap();
        shared.operators.members.push(learner("n3", ""));
        shared.operators.change = "adding n3: it has not been started".into();
    }
    setup.pipe("cluster members").prints(&format!(
        "n1\tvoter\tleader\tserving\t0\t{one}\t\nn2\tvoter\t\tserving\t0\t{two}\t\n\
         n3\tadded\t\tunreachable\t0\t\t10.0.0.4:7611\n"
    ));
    let people = setup.person("cluster members");
    let lines: Vec<&str> = people.text().lines().collect();
    assert!(lines[0].starts_with("NODE  ROLE "), "{people:?}");
    let columns = |line: &str| -> Vec<String> {
        line.split("  ").map(str::trim).filter(|text| !text.is_empty()).map(Into::into).collect()
    };
    assert_eq!(columns(lines[1]), ["n1", "voter, leader", "serving", "0", &*one, "-"]);
    let added = ["n3", "added, to be a voter", "unreachable", "0", "-", "10.0.0.4:7611"];
    assert_eq!(columns(lines[3]), added);
    assert_eq!(lines[4], "quorum 2 of 2 voters");
    assert_eq!(lines[5], "note: adding n3: it has not been started");

    let found = json(setup.pipe("cluster members -o json").text());
    assert_eq!(
        (&found["schema"], &found["voters"], &found["quorum"]),
        (&1.into(), &2.into(), &2.into())
    );
    assert_eq!(found["change"], "adding n3: it has not been started");
    assert_eq!(
        (&found["members"][0]["leader"], &found["members"][2]["promote"]),
        (&true.into(), &true.into())
    );
    let lines = setup.pipe("cluster members -o jsonl");
    assert_eq!(lines.text().lines().count(), 3);
    assert!(lines.text().lines().all(|line| json(line)["schema"] == 1), "{lines:?}");
}

#[test]
fn a_dry_run_says_what_would_happen_and_asks_nothing() {
    let setup = Setup::new(3);
    setup.cluster.shared.lock().unwrap().operators.warnings.push("n2 is not up".into());
    setup
        .pipe("cluster remove n3 --dry-run")
        .prints("voters\t3\t2\nquorum\t2\t2\nwarning\tn2 is not up\n");
    setup
        .person("cluster add n4=10.0.0.4:7611 --dry-run")
        .prints("would add n4  voters 3 -> 4  quorum 2 -> 3\nwarning: n2 is not up\n");
    let found = json(setup.pipe("cluster promote n2 --dry-run -o json").text());
    assert_eq!((&found["schema"], &found["change"]), (&1.into(), &"promote".into()));
    assert_eq!((&found["voters_after"], &found["dry_run"]), (&4.into(), &true.into()));
    assert_eq!(found["warnings"][0], "n2 is not up");
    assert!(changes(&setup).iter().all(|change| change.dry_run));
    // What changes nothing is repeated like any read.
    setup.cluster.nodes[0].next([Act::ServeThenHang]);
    setup.pipe("cluster remove n3 --dry-run --timeout 2s").exit_is(0);
    assert_eq!(changes(&setup).len(), 5);
}

#[test]
fn members_are_changed() {
    let setup = Setup::new(3);
    let added = setup.person("cluster add n4=10.0.0.4:7611");
    added.prints("added n4  voters 3 -> 4  quorum 2 -> 3\n");
    assert_eq!(added.err, "start n4 with `join`; it becomes a voter once it has caught up\n");
    setup.pipe("cluster add n5=10.0.0.5:7611 --learner").prints("voters\t3\t3\nquorum\t2\t2\n");
    setup.pipe("cluster promote n2").prints("voters\t3\t4\nquorum\t2\t3\n");
    setup.pipe("cluster remove n3 --yes").prints("voters\t3\t2\nquorum\t2\t2\n");
    setup.pipe("cluster move-leader n2").prints("n2\n");
    setup.person("cluster move-leader n2").prints("n2 leads\n");
    assert_eq!(json(setup.pipe("cluster move-leader n2 -o json").text())["leader"], "n2");
    let kept = changes(&setup);
    assert_eq!((&*kept[0].peer_address, kept[0].learner), ("10.0.0.4:7611", false));
    assert!(kept[1].learner && kept.iter().all(|change| !change.dry_run));

    for (line, exit, code) in [
        ("cluster add n1=10.0.0.1:7611", 4, "KV1212"),
        ("cluster remove nope --yes", 3, "KV1211"),
        ("cluster promote nope", 3, "KV1211"),
        ("cluster move-leader nope", 3, "KV1211"),
    ] {
        let ran = setup.pipe(line);
        assert_eq!((ran.exit, ran.text()), (exit, ""), "{line}: {ran:?}");
        assert!(ran.err.starts_with(&format!("error[{code}]: ")), "{line}: {ran:?}");
    }
    for line in ["cluster add n4", "cluster add n4=nowhere", "cluster add", "cluster promote"] {
        setup.pipe(line).exit_is(2);
    }
}

#[test]
fn removing_a_member_shows_the_plan_and_asks() {
    let setup = Setup::new(3);
    setup.cluster.shared.lock().unwrap().operators.warnings.push("n2 is not up".into());
    setup.pipe("cluster remove n3").exit_is(2);
    setup.run(words("cluster remove n3 --no-input"), Seat::Person, b"y\n").exit_is(2);
    assert!(changes(&setup).is_empty());
    let no = setup.run(words("cluster remove n3"), Seat::Person, b"n\n");
    no.exit_is(1);
    assert!(no.err.starts_with("would remove n3  voters 3 -> 2  quorum 2 -> 2\n"), "{no:?}");
    assert!(
        no.err.contains("warning: n2 is not up\nremoving member \"n3\" for good [y/N]"),
        "{no:?}"
    );
    assert!(changes(&setup).iter().all(|change| change.dry_run));
    setup.run(words("cluster remove n3"), Seat::Person, b"y\n").exit_is(0);
    assert!(!changes(&setup).last().unwrap().dry_run);
}

#[test]
fn a_node_is_found_by_its_name_and_no_other_is_asked() {
    let setup = Setup::new(3);
    // Only the first node is known from the start.
    let mut vars = setup.vars();
    vars.insert("KV_ENDPOINTS", setup.cluster.nodes[0].address.clone().into());
    let run = |line: &str, seat: Seat| run_in(words(line), seat, b"", vars.clone());
    run("node ping n2", Seat::Pipe).prints("n2\tserving\t3723400\t0.1.0\n");
    let people = run("node ping n3", Seat::Person);
    assert_eq!(timeless(people.text()), "n3  serving  T  up 1h 2m 3s  version 0.1.0\n");
    let found = json(run("node ping n2 -o json", Seat::Pipe).text());
    assert_eq!((&found["schema"], &found["node"]), (&1.into(), &"n2".into()));
    assert!(found["took_us"].is_u64());

    run("node log-level n2", Seat::Pipe).prints("info\n");
    run("node log-level n2 --set kvstore=debug", Seat::Person).prints("n2  kvstore=debug\n");
    assert_eq!(
        json(run("node log-level n2 -o json", Seat::Pipe).text())["filter"],
        "kvstore=debug"
    );
    run("node log-level n1", Seat::Pipe).prints("info\n");
    run("node log-level n1 --set=", Seat::Pipe).exit_is(2);

    run("node compact n3", Seat::Pipe).prints("n3\t3145728\t1048576\t2048\n");
    run("node compact n3", Seat::Person).prints("n3  log 3.0 MiB -> 1.0 MiB  export 2.0 KiB\n");
    assert_eq!(json(run("node compact n3 -o json", Seat::Pipe).text())["export_bytes"], 2_048);

    let unknown = run("node ping nope", Seat::Pipe);
    unknown.exit_is(3);
    assert!(unknown.err.starts_with("error[KV1211]: node \"nope\""), "{unknown:?}");
    assert!(unknown.err.contains("the members are: n1, n2, n3"), "{unknown:?}");
}

#[test]
fn a_node_that_cannot_be_reached_is_named() {
    let setup = Setup::new(2);
    let not_started = learner("n4", "");
    setup.cluster.shared.lock().unwrap().operators.members.push(not_started);
    let early = setup.pipe("node ping n4");
    early.exit_is(5);
    assert!(early.err.contains("its client address is not known"), "{early:?}");
    // Another node listens at the advertised address.
    let wrong = setup.cluster.nodes[0].address.clone();
    setup.cluster.set_client_address(1, &wrong);
    let other = setup.pipe("node ping n2");
    assert_eq!((other.exit, other.err.starts_with("error[KV1017]")), (8, true), "{other:?}");
    // Who belongs to the cluster cannot be agreed on: what a node remembers has to do.
    let refused = Failure::new(Code::NoQuorum, "list of members", "1 of 2 voters reachable");
    let mut vars = setup.vars();
    vars.insert("KV_ENDPOINTS", setup.cluster.nodes[0].address.clone().into());
    setup.cluster.nodes[0].always(Act::Refuse(refused));
    let start = std::time::Instant::now();
    let ping = run_in(words("node ping n1 --timeout 3s"), Seat::Pipe, b"", vars);
    assert_eq!((ping.exit, ping.err.contains("KV1201")), (5, true), "{ping:?}");
    // The second it takes to give up on the list is part of the three.
    assert!(start.elapsed().as_millis() < 3_900, "{:?}", start.elapsed());
    assert!(!setup.cluster.shared.lock().unwrap().hellos.is_empty());
}

#[test]
fn a_refusal_of_a_change_says_what_is_certain() {
    let setup = Setup::new(1);
    let why = "no majority of the new voters was heard";
    let refused = Failure::new(Code::QuorumAtRisk, "removal of member \"n1\"", why);
    setup.cluster.nodes[0].always(Act::Refuse(refused.applied(Applied::No)));
    let ran = setup.pipe("cluster remove n1 --yes --timeout 300ms -o json");
    ran.exit_is(5);
    let error = json(&ran.err);
    assert_eq!(
        (&error["error"]["code"], &error["error"]["applied"]),
        (&"KV1214".into(), &"no".into())
    );
}

/// Hangs up after so many lines.
struct Reader {
    lines: usize,
    read: Arc<Mutex<Vec<u8>>>,
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut read = self.read.lock().unwrap();
        if read.iter().filter(|byte| **byte == b'\n').count() >= self.lines {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        read.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn status_is_watched_until_nobody_reads_and_over_failures() {
    let setup = Setup::new(1);
    let node = v1::NodeStatus { state: "serving".into(), ..Default::default() };
    let status =
        v1::StatusReply { cluster_name: "dev".into(), nodes: vec![node], ..Default::default() };
    setup.cluster.nodes[0].set_status(status);
    // It asks for more time than the call has, so that each refusal ends a call.
    let refused = Failure::new(Code::NotReady, "cluster status", "it is starting");
    let refused = refused.retry_after(Duration::from_secs(60));
    setup.cluster.nodes[0].next([Act::Serve, Act::Refuse(refused.clone()), Act::Refuse(refused)]);
    let (read, err) = (Arc::default(), Captured::default());
    let vars = setup.vars();
    let mut terminal = Terminal {
        stdin: Box::new(io::empty()),
        stdout: Box::new(Reader { lines: 3, read: Arc::clone(&read) }),
        stderr: Box::new(err.clone()),
        stdin_is_tty: false,
        stdout_is_tty: false,
        stderr_is_tty: false,
        env: Box::new(move |name| vars.get(name).cloned()),
    };
    let line = "cluster status --watch=10ms -o json";
    assert_eq!(cli::run(words(line), &mut terminal), 0);
    let out = String::from_utf8(read.lock().unwrap().clone()).unwrap();
    assert_eq!(out.lines().count(), 3, "{out}");
    assert!(out.lines().all(|line| json(line)["cluster"] == "dev"), "{out}");
    let run = Ran {
        exit: 0,
        out: vec![],
        err: String::from_utf8(err.0.lock().unwrap().clone()).unwrap(),
    };
    assert_eq!(run.err.lines().count(), 2, "{run:?}");
    assert!(run.err.contains("KV1207"), "{run:?}");
    setup.pipe("cluster status --watch=0s").exit_is(2);
    setup.pipe("cluster status --watch 2s").exit_is(2);
}
