//! The command on an eventual keyspace: outputs and exit codes (interface of scripts).

mod desk;
mod fake;

use desk::{Ran, Setup, json, timeless};
use fake::Act;
use fake::siblings::dot;
use proto::error::Partial;
use proto::{Applied, Code, Failure};
use tonic::Status;

/// A cluster with the eventual keyspace `e`.
fn setup() -> Setup {
    let setup = Setup::new(2);
    setup.cluster.add_eventual("e");
    setup
}

/// A key of two values, `1` and the newer `2`.
fn split() -> Setup {
    let setup = setup();
    let nothing = nothing(&setup);
    for value in ["1", "2"] {
        setup.pipe(&format!("put a {value} -k e --causal {nothing}")).prints("");
    }
    setup
}

/// The context of a key that nobody ever wrote.
fn nothing(setup: &Setup) -> String {
    text(&found(setup.pipe("get never -k e -o json").exit_is(3)), "context")
}

fn found(ran: &Ran) -> serde_json::Value {
    json(ran.text())
}

fn text(json: &serde_json::Value, field: &str) -> String {
    json[field].as_str().unwrap_or_else(|| panic!("{field}: {json}")).to_owned()
}

#[test]
fn put_prints_the_dot_and_the_context_of_the_next_write() {
    let setup = setup();
    let put = setup.pipe("put a 1 -k e -o json");
    let first = found(put.exit_is(0));
    assert_eq!(text(&first, "dot"), dot(1).to_string());
    assert_eq!((&first["applied"], &first["level"]), (&true.into(), &"eventual".into()));
    assert!(first.get("rev").is_none(), "there are no revisions: {first}");

    let context = text(&first, "context");
    setup.pipe(&format!("put a 2 -k e --causal {context}")).prints("");
    assert_eq!(setup.cluster.values("e", "a"), ["2"]);
    setup.pipe(&format!("put a 3 -k e --causal {context}")).prints("");
    assert_eq!(setup.cluster.values("e", "a"), ["3", "2"], "it had not seen the 2");

    let put = setup.person("put a 4 -k e --ack quorum --ttl 30s");
    let expected = format!("ok  dot {}  T  eventual, acknowledged by n1\n", dot(4));
    assert_eq!((put.exit, timeless(&put.err)), (0, expected));
    assert_eq!(setup.cluster.values("e", "a"), ["4"], "without a token it supersedes all there is");
    let seen = setup.cluster.eventual_writes();
    let last = seen.last().unwrap();
    assert_eq!((last.ttl_ms, last.ack), (30_000, proto::v1::Ack::Quorum));
}

#[test]
fn one_value_is_shown_as_usual() {
    let setup = setup();
    setup.pipe("put a hello -k e").prints("");
    setup.pipe("get a -k e").prints("hello");
    setup.person("get a -k e").prints("hello\n");
    let get = found(setup.pipe("get a -k e -o json").exit_is(0));
    assert_eq!((&get["value"], &get["found"]), (&"hello".into(), &true.into()));
    assert_eq!(get["siblings"].as_array().unwrap().len(), 1);
    assert_eq!(get["siblings"][0]["value"], "hello");
    assert_eq!(get["siblings"][0]["dot"], dot(1).to_string());
    assert_eq!(get["siblings"][0]["written"], "2026-11-18T11:06:40.001Z");
    assert!(get.get("rev").is_none() && get.get("at_rev").is_none(), "{get}");
    let context = text(&get, "context");
    setup.pipe(&format!("put a again -k e --causal {context}")).prints("");
    setup.pipe("get a -k e").prints("again");
}

#[test]
fn several_values_are_never_taken_for_one() {
    let setup = split();
    for line in ["get a -k e", "get a -k e -o raw"] {
        let get = setup.pipe(line);
        assert_eq!((get.exit, get.text()), (4, ""), "{line}");
        let expected = "error[KV1804]: read of \"a\" failed: key has several values\n  \
                        why:   2 values do not know of each other; none is printed\n";
        assert!(get.err.starts_with(expected), "{}", get.err);
    }
    assert_eq!(setup.person("get a -k e -o raw").exit, 4);
    setup.pipe("get a -k e --resolve lww").prints("2");
    setup.person("get a -k e --resolve lww").prints("2\n");

    let lines = format!("{}  2\n{}  1\n", dot(2), dot(1));
    let get = setup.person("get a -k e");
    get.prints(&lines);
    assert!(get.err.contains("2 values that do not know of each other"), "{}", get.err);
    let lines = lines.replace("  ", "\t");
    setup.pipe("get a -k e --all-siblings").prints(&lines);

    let get = found(setup.pipe("get a -k e -o json").exit_is(0));
    assert_eq!((get.get("value"), &get["found"]), (None, &true.into()));
    let values: Vec<&str> =
        get["siblings"].as_array().unwrap().iter().map(|s| s["value"].as_str().unwrap()).collect();
    assert_eq!(values, ["2", "1"]);
    let get = found(&setup.pipe("get a -k e -o json --resolve lww"));
    assert_eq!((&get["value"], get["siblings"].as_array().unwrap().len()), (&"2".into(), 2));

    let context = text(&get, "context");
    setup.pipe(&format!("put a both -k e --causal {context}")).prints("");
    setup.pipe("get a -k e").prints("both");
}

#[test]
fn values_that_do_not_fit_into_a_reply_are_counted_or_fetched() {
    let setup = split();
    let nothing = nothing(&setup);
    setup.pipe(&format!("put a 3 -k e --causal {nothing}")).prints("");
    setup.cluster.shared.lock().unwrap().eventual.page = 1;
    let get = found(&setup.pipe("get a -k e -o json"));
    assert_eq!((&get["more"], get["siblings"].as_array().unwrap().len()), (&2.into(), 1));
    assert!(get.get("value").is_none(), "one of three is not the value: {get}");
    assert_eq!(setup.pipe("get a -k e").exit, 4);
    let get = found(&setup.pipe("get a -k e -o json --all-siblings"));
    assert_eq!((get.get("more"), get["siblings"].as_array().unwrap().len()), (None, 3));
}

#[test]
fn a_deleted_key_is_not_found_and_has_a_context() {
    let setup = split();
    let del = setup.pipe("del a -k e -o json");
    let done = found(del.exit_is(0));
    assert_eq!((&done["deleted"], text(&done, "dot")), (&1.into(), dot(3).to_string()));
    assert!(!text(&done, "context").is_empty() && done.get("rev").is_none(), "{done}");
    assert!(setup.cluster.values("e", "a").is_empty());

    let get = setup.pipe("get a -k e -o json");
    let none = found(get.exit_is(3));
    assert_eq!((&none["found"], none.get("value")), (&false.into(), None));
    assert!(!text(&none, "context").is_empty(), "{none}");
    let get = setup.pipe("get a -k e");
    assert_eq!((get.exit, get.text()), (3, ""));
    assert!(get.err.contains("no value of it lives at n"), "{}", get.err);
    setup.pipe("get a -k e --missing-ok").prints("");
    let del = setup.pipe("del a -k e");
    assert_eq!((del.exit, del.text()), (3, "0\n"));
}

#[test]
fn a_delete_ends_what_was_read_and_nothing_else() {
    let setup = setup();
    let nothing = nothing(&setup);
    let put = found(&setup.pipe(&format!("put a 1 -k e -o json --causal {nothing}")));
    setup.pipe(&format!("put a 2 -k e --causal {nothing}")).prints("");
    let context = text(&put, "context");
    setup.pipe(&format!("del a -k e --causal {context}")).prints("1\n");
    assert_eq!(setup.cluster.values("e", "a"), ["2"]);
    let del = setup.person("del a -k e");
    del.prints(&format!("deleted 1 key  dot {}\n", dot(4)));

    for key in ["p/1", "p/2", "p/3", "q"] {
        setup.pipe(&format!("put {key} x -k e")).prints("");
    }
    setup.pipe("del --prefix p/ -k e --dry-run").prints("3\n");
    setup.pipe("del --prefix p/ -k e --yes").prints("3\n");
    setup.pipe("ls -k e --keys-only").prints("q\n");
    assert_eq!(setup.pipe("del --prefix p/ -k e --yes --causal AAE=").exit, 2);
}

#[test]
fn keys_are_listed_with_their_values() {
    let setup = split();
    setup.pipe("put b 333 -k e").prints("");
    setup.pipe("put c 4 -k e").prints("");
    setup.pipe("ls -k e").prints("a\t2\t2\nb\t1\t3\nc\t1\t1\n");
    setup.pipe("ls -k e --limit 1").prints("a\t2\t2\n");
    setup.pipe("ls -k e --count").prints("3\n");
    let expected = "KEY  VALUES  SIZE\na    2       2 B\nb    1       3 B\nc    1       1 B\n";
    setup.person("ls -k e").prints(expected);
    let ls = found(&setup.pipe("ls -k e -o json"));
    let first = &ls["items"][0];
    assert_eq!(
        (&first["key"], &first["siblings"][1]["dot"]),
        (&"a".into(), &dot(1).to_string().into())
    );
    assert_eq!((&first["siblings"][0]["value"], ls.get("at_rev")), (&"2".into(), None), "{ls}");
    assert_eq!((&ls["level"], ls.get("answered_by")), (&"eventual".into(), None), "{ls}");
    let context = text(first, "context");
    setup.pipe(&format!("put a both -k e --causal {context}")).prints("");
    assert_eq!(setup.cluster.values("e", "a"), ["both"]);

    // Nobody says of which kind it is: then there are sizes, and no values that would look empty.
    setup.cluster.shared.lock().unwrap().eventual.mute = true;
    let ls = found(&setup.pipe("ls -k e -o json"));
    let sibling = &ls["items"][0]["siblings"][0];
    assert_eq!((&sibling["size"], sibling.get("value")), (&4.into(), None), "{ls}");
}

#[test]
fn a_write_on_too_few_replicas_is_partial() {
    let setup = setup();
    let partial =
        || Partial { durable_on: 1, wanted: 3, dot: dot(7), context: vec![0, 255].into() };
    let missed = || {
        let failure = Failure::new(Code::AckMissed, "", "n2 and n3 are silent");
        Act::Refuse(failure.applied(Applied::Yes).partial(partial()))
    };
    // The kind is asked for before.
    setup.cluster.nodes[0].next([Act::Serve, missed()]);
    let put = setup.pipe("put a 1 -k e --ack all");
    assert_eq!((put.exit, put.text()), (10, ""));
    let expected = format!(
        "error[KV1304]: write to \"a\" was applied: write is on fewer replicas than asked for\n  \
         why:   n2 and n3 are silent\n  \
         state: applied; durable on 1 of 3 replicas, dot {}\n",
        dot(7)
    );
    assert!(put.err.starts_with(&expected), "{}", put.err);

    setup.cluster.nodes[0].next([Act::Serve, missed()]);
    let put = setup.pipe("put a 1 -k e --ack all -o json");
    let error = &json(put.exit_is(10).err.trim())["error"];
    for told in [error, &found(&put)] {
        assert_eq!((&told["durable_on"], &told["wanted"]), (&1.into(), &3.into()), "{told}");
        assert_eq!(text(told, "dot"), dot(7).to_string());
        assert_eq!(text(told, "context"), "AP8=");
    }
    assert_eq!((&error["applied"], &error["exit"]), (&"yes".into(), &10.into()));

    let missing = Failure::new(Code::ReplicasMissing, "", "one of three").applied(Applied::No);
    for node in &setup.cluster.nodes {
        node.always(Act::Refuse(missing.clone().retry_after(std::time::Duration::from_secs(9))));
    }
    let put = setup.pipe("put a 1 -k e --ack all");
    assert_eq!(put.exit, 5, "{put:?}");
    assert!(put.err.contains("NOT applied"), "{}", put.err);
}

#[test]
fn a_write_that_may_be_repeated_anywhere_is_another_one() {
    let setup = setup();
    let lost = || [Act::Serve, Act::ServeThenStatus(Status::unknown("lost"))];
    setup.cluster.nodes[0].next(lost());
    setup.pipe("put a 1 -k e --retry any").prints("");
    assert_eq!(setup.cluster.values("e", "a"), ["1", "1"]);
    let nodes: Vec<String> =
        setup.cluster.eventual_writes().into_iter().map(|seen| seen.node).collect();
    assert_eq!(nodes, ["n1", "n2"]);
    setup.cluster.nodes[0].next(lost());
    setup.pipe("put b 1 -k e").prints("");
    assert_eq!(setup.cluster.values("e", "b"), ["1"]);
}

#[test]
fn what_the_kind_does_not_offer_is_refused() {
    let setup = setup();
    let put = setup.pipe("put a 1 -k e --if-absent");
    assert_eq!(put.exit, 8);
    assert!(put.err.starts_with("error[KV1401]"), "{}", put.err);
    assert_eq!(setup.pipe("get a -k e --consistency linearizable").exit, 8);
    for line in ["get a --ack all", "ls --ack one", "history a --ack one", "export --ack one"] {
        assert_eq!(setup.pipe(line).exit, 2, "{line}");
    }
    let explained = setup.pipe("explain KV1304");
    assert!(explained.exit_is(0).text().contains("fewer replicas"), "{explained:?}");
}

#[test]
fn an_export_holds_every_value_and_an_import_adds_what_is_missing() {
    let setup = split();
    setup.pipe("put b x -k e --ttl 10s").prints("");
    let export = setup.pipe("export -k e");
    let expected = format!(
        "{{\"key\":\"a\",\"value\":\"2\",\"dot\":\"{}\"}}\n\
         {{\"key\":\"a\",\"value\":\"1\",\"dot\":\"{}\"}}\n\
         {{\"key\":\"b\",\"value\":\"x\",\"dot\":\"{}\",\"expires\":\"2026-11-18T11:06:50.000Z\"}}\n",
        dot(2),
        dot(1),
        dot(3)
    );
    export.prints(&expected);
    assert!(export.err.contains("exported 2 keys"), "{}", export.err);

    setup.cluster.add_eventual("copy");
    let line = |key: &str, value: &str, expires: &str| {
        format!("{{\"key\":\"{key}\",\"value\":\"{value}\",\"dot\":\"{}\"{expires}}}\n", dot(1))
    };
    let lines = [
        line("a", "2", ""),
        line("a", "1", ""),
        line("gone", "x", ",\"expires\":\"2001-01-01T00:00:00Z\""),
        line("later", "x", ",\"expires\":\"2199-01-01T00:00:00Z\""),
    ];
    // A time to live of ten years is the longest, so this line is refused by the client.
    let import = setup.fed("import - -k copy -o json", lines[..3].concat().as_bytes());
    let tally = found(import.exit_is(0));
    assert_eq!((&tally["written"], &tally["skipped"]), (&2.into(), &1.into()));
    assert_eq!(setup.cluster.values("copy", "a"), ["1", "2"]);
    let again = setup.fed("import - -k copy -o json", lines[..3].concat().as_bytes());
    let tally = found(again.exit_is(0));
    assert_eq!((&tally["written"], &tally["skipped"]), (&0.into(), &3.into()));
    assert_eq!(setup.cluster.values("copy", "a"), ["1", "2"]);
    assert_eq!(setup.fed("import - -k copy", lines[3].as_bytes()).exit, 8);
    let nowhere = setup.fed("import - -k nowhere", lines[0].as_bytes());
    assert!(nowhere.exit_is(3).err.starts_with("error[KV1008]"), "{}", nowhere.err);
}
