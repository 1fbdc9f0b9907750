//! The command as its users see it: output, notes and exit codes.

mod desk;
mod fake;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::time::Duration;

use client::cli::{self, Terminal};
use client::pki;
use desk::{Captured, HungUp, Seat, Setup, json, run_in, timeless, words};
use fake::Act;
use proto::{Applied, Code, Failure, v1};

#[test]
fn a_value_passes_through_a_pipe_unchanged() {
    let setup = Setup::new(1);
    let bytes: Vec<u8> = (0..=255).collect();
    let put = setup.fed("put blob", &bytes);
    assert_eq!((put.exit, put.out.len(), put.err.as_str()), (0, 0, ""));
    let get = setup.pipe("get blob");
    assert_eq!((get.exit, get.out), (0, bytes.clone()));
    assert_eq!(setup.person("get blob -o raw").out, bytes);

    setup.pipe("put text hello").prints("");
    setup.pipe("get text").prints("hello");
    setup.pipe("put empty --").prints("");
    setup.pipe("get empty").prints("");
}

#[test]
fn a_person_sees_lines_and_hex() {
    let setup = Setup::new(3);
    let put = setup.person("put hello world");
    assert_eq!((put.exit, put.text()), (0, ""));
    let expected = "ok  rev 2  T  linearizable, acknowledged by n1 n2 n3\n";
    assert_eq!(timeless(&put.err), expected);
    setup.person("get hello").prints("world\n");

    setup.fed("put blob", b"\x00\xff\x1b").prints("");
    let get = setup.person("get blob");
    get.prints("00ff1b\n");
    assert_eq!(get.err, "note: 3 bytes that are no text, shown in hex; -o raw prints them\n");
    assert_eq!(setup.person("get blob -q").err, "");
}

#[test]
fn json_holds_what_is_known() {
    let setup = Setup::new(1);
    let put = setup.pipe("put a 1 -o json");
    let found = json(put.text());
    assert_eq!(found["rev"], 2);
    assert_eq!(found["applied"], true);
    assert_eq!(found["level"], "linearizable");
    assert_eq!(found["node"], "n1");
    assert!(found["took_us"].is_u64());

    let get = setup.pipe("get a -o json");
    assert!(get.text().starts_with(r#"{"schema":1,"key":"a","value":"1","rev":2,"#), "{get:?}");
    let found = json(get.text());
    assert_eq!((&found["create_rev"], &found["version"]), (&2.into(), &1.into()));
    assert_eq!((&found["at_rev"], &found["found"]), (&2.into(), &true.into()));

    setup.fed("put b", b"\xff").prints("");
    let found = json(setup.pipe("get b -o json").text());
    assert_eq!(found["value_b64"], "/w==");
    assert!(found.get("value").is_none());

    let none = setup.pipe("get nope -o json");
    assert_eq!(none.exit, 3);
    assert_eq!(json(none.text())["found"], false);
    let error = json(&none.err);
    assert_eq!((&error["error"]["code"], &error["error"]["exit"]), (&"KV1101".into(), &3.into()));
}

#[test]
fn an_absent_key_exits_3() {
    let setup = Setup::new(1);
    let get = setup.pipe("get nope");
    assert_eq!((get.exit, get.text()), (3, ""));
    let expected = "error[KV1101]: read of \"nope\" failed: key not found\n  \
                    why:   it does not exist at revision 1\n";
    assert!(get.err.starts_with(expected), "{}", get.err);
    setup.pipe("get nope --missing-ok").prints("");

    let del = setup.pipe("del nope");
    assert_eq!((del.exit, del.text()), (3, "0\n"));
    setup.pipe("del nope --missing-ok").prints("0\n");
}

#[test]
fn meta_tells_about_a_key() {
    let setup = Setup::new(1);
    setup.pipe("put a 1").prints("");
    setup.pipe("put a 22").prints("");
    let expected = "key\ta\nrev\t3\ncreate_rev\t2\nversion\t2\nsize\t2\nat_rev\t3\n";
    setup.pipe("get a --meta").prints(expected);
    assert!(json(setup.pipe("get a --meta -o json").text()).get("value").is_none());
}

#[test]
fn values_come_from_arguments_files_and_stdin() {
    let setup = Setup::new(1);
    let file = setup.config.path().join("value");
    std::fs::write(&file, b"from file").unwrap();
    setup.pipe(&format!("put a --file {}", file.display())).prints("");
    setup.pipe("get a").prints("from file");
    setup.fed("put a -", b"from stdin").prints("");
    setup.pipe("get a").prints("from stdin");
    setup.pipe("put a -1").prints("");
    setup.pipe("get a").prints("-1");
    let nobody = setup.person("put a");
    assert_eq!((nobody.exit, nobody.err.contains("stdin")), (2, true));
    assert_eq!(setup.pipe("put a --file /nowhere/x").exit, 3);
    let empty = setup.run(["kv", "put", "", "1"].map(OsString::from).into(), Seat::Pipe, b"");
    assert_eq!(empty.exit, 2);
}

#[test]
fn conditions_that_do_not_hold_exit_4() {
    let setup = Setup::new(1);
    setup.pipe("put a 1 --if-absent").prints("");
    setup.pipe("put a 2 --if-rev 2").prints("");
    setup.pipe("put a 3 --if-present --prev").prints("2");
    for line in ["put a x --if-absent", "put a x --if-rev 2", "put a x --if-rev 0"] {
        let put = setup.pipe(line);
        assert_eq!((put.exit, put.text()), (4, ""), "{line}");
        assert!(put.err.starts_with("error[KV1102]: write to \"a\" refused"), "{}", put.err);
        assert!(put.err.contains("NOT applied"), "{}", put.err);
    }
    assert_eq!(setup.pipe("put b x --if-present").exit, 4);
    let put = setup.pipe("put a x --if-absent -o json");
    assert_eq!((put.exit, &json(put.text())["applied"]), (4, &false.into()));
    setup.pipe("get a").prints("3");
}

#[test]
fn deleting_by_prefix_needs_a_yes() {
    let setup = Setup::new(1);
    for key in ["a/1", "a/2", "b"] {
        setup.pipe(&format!("put {key} 1")).prints("");
    }
    let refused = setup.pipe("del --prefix a/");
    assert_eq!((refused.exit, refused.text()), (2, ""));
    assert!(refused.err.contains("--yes"), "{}", refused.err);
    setup.pipe("del --prefix a/ --dry-run").prints("2\n");
    setup.pipe("del b --dry-run").prints("1\n");
    setup.pipe("del --prefix nope --yes").prints("0\n");

    let no = setup.run(words("del --prefix a/"), Seat::Person, b"n\n");
    assert_eq!((no.exit, no.text()), (1, ""));
    assert_eq!(setup.run(words("del --prefix a/ --no-input"), Seat::Person, b"y\n").exit, 2);
    let yes = setup.run(words("del --prefix a/"), Seat::Person, b"y\n");
    yes.prints("deleted 2 keys  rev 6\n");
    assert!(
        yes.err.contains("deleting 2 keys with the prefix \"a/\" of keyspace \"default\" [y/N]"),
        "{}",
        yes.err
    );
    setup.person("del b").prints("deleted 1 key  rev 7\n");
    setup.pipe("put a 1").prints("");
    assert_eq!(json(setup.pipe("del a -o json").text())["deleted"], 1);
    setup.pipe("put a 1").prints("");
    setup.pipe("del --prefix= --yes").prints("1\n");
}

#[test]
fn ls_lists_all_pages() {
    let setup = Setup::new(1);
    let names = ["a", "b\tc", "d\\e", "f", "g", "h", "i", "j"];
    for (at, name) in names.iter().enumerate() {
        let arguments = ["kv", "put", name, &"x".repeat(at)].map(OsString::from).into();
        setup.run(arguments, Seat::Pipe, b"").prints("");
    }
    let all = setup.pipe("ls");
    all.prints(
        "a\t2\t0\nb\\x09c\t3\t1\nd\\x5ce\t4\t2\nf\t5\t3\ng\t6\t4\nh\t7\t5\ni\t8\t6\nj\t9\t7\n",
    );
    setup.pipe("ls --limit 4 --keys-only").prints("a\nb\\x09c\nd\\x5ce\nf\n");
    setup.pipe("ls --from f --to i --keys-only").prints("f\ng\nh\n");
    setup.pipe("ls f").prints("f\t5\t3\n");
    setup.pipe("ls nope").prints("");
    setup.pipe("ls --count").prints("8\n");
    setup.pipe("ls --limit 2 -0").prints("a\t2\t0\0b\tc\t3\t1\0");
    setup.pipe("ls --limit 2 -0 --keys-only").prints("a\0b\tc\0");
    setup.person("ls g").prints("KEY  REV  SIZE\ng    6    4 B\n");

    let listing = json(setup.pipe("ls --limit 4 -o json").text());
    assert_eq!(listing["items"].as_array().unwrap().len(), 4);
    assert_eq!((&listing["more"], &listing["items"][0]["key"]), (&true.into(), &"a".into()));
    let lines = setup.pipe("ls -o jsonl");
    assert_eq!(lines.text().lines().count(), 8);
    let last = json(lines.text().lines().nth(7).unwrap());
    assert_eq!((&last["size"], &last["schema"]), (&7.into(), &1.into()));
    let keys = setup.pipe("ls g --keys-only -o jsonl");
    assert_eq!(json(keys.text()), json(r#"{"schema":1,"key":"g"}"#));
}

#[test]
fn txn_takes_and_gives_json() {
    let setup = Setup::new(1);
    let text = br#"{"if":[{"key":"a","absent":true}],
        "then":[{"put":"a","value":"1"},{"get":"a"},{"get":"zzz"}],"else":[{"del":"a"}]}"#;
    let first = setup.fed("txn", text);
    assert_eq!(first.exit, 0);
    let found = json(first.text());
    assert_eq!((&found["schema"], &found["succeeded"]), (&1.into(), &true.into()));
    assert_eq!(found["rev"], 2);
    assert_eq!(found["results"][0]["op"], "put");
    assert_eq!(found["results"][1]["value"], "1");
    assert_eq!(found["results"][2]["key"], "zzz");
    assert_eq!(found["results"][2]["found"], false);

    let file = setup.config.path().join("txn.json");
    std::fs::write(&file, text).unwrap();
    let second = setup.pipe(&format!("txn --strict -f {}", file.display()));
    assert_eq!((second.exit, &json(second.text())["succeeded"]), (4, &false.into()));
    assert_eq!(json(setup.fed("txn -f -", text).text())["succeeded"], true);
    assert_eq!(setup.fed("txn", b"{").exit, 2);
    assert_eq!(setup.pipe("txn -f /nowhere").exit, 3);
}

#[test]
fn levels_are_passed_on_and_refused_by_the_server() {
    let setup = Setup::new(1);
    setup.pipe("get a --missing-ok --consistency eventual").prints("");
    let reads = setup.cluster.shared.lock().unwrap().reads.clone();
    assert_eq!(reads[0].1, v1::Level::Eventual as i32);
    let why = "level \"quorum\" is not offered";
    let refused = Failure::new(Code::LevelNotOffered, "read of \"a\"", why);
    setup.cluster.nodes[0].next([Act::Refuse(refused)]);
    let get = setup.pipe("get a --consistency quorum");
    assert_eq!(get.exit, 8);
    assert!(get.err.starts_with("error[KV1007]: read of \"a\" failed"), "{}", get.err);
    assert_eq!(setup.pipe("get a --consistency strong").exit, 2);
}

#[test]
fn exit_codes_tell_certainty() {
    let setup = Setup::new(2);
    for node in &setup.cluster.nodes {
        let refused = Failure::new(Code::NoQuorum, "write to \"a\"", "1 of 3 voters reachable");
        node.always(Act::Refuse(refused.applied(Applied::No)));
    }
    let put = setup.pipe("put a 1 --timeout 300ms");
    assert_eq!(put.exit, 5);
    assert_eq!(
        put.err,
        "error[KV1201]: write to \"a\" refused: no quorum\n  \
         why:   1 of 3 voters reachable\n  \
         state: NOT applied; safe to retry\n  \
         try:   kv cluster status      or kv explain KV1201\n"
    );
    let get = setup.pipe("get a --timeout 300ms");
    assert_eq!(get.exit, 5);
    assert!(get.err.contains("kv get a --consistency eventual"), "{}", get.err);

    for node in &setup.cluster.nodes {
        node.always(Act::Hang);
    }
    let put = setup.pipe("put a 1 --timeout 300ms -o json");
    assert_eq!(put.exit, 6);
    let error = json(&put.err);
    assert_eq!(error["error"]["code"], "KV1204");
    assert_eq!(error["error"]["applied"], "unknown");
    assert_eq!(setup.pipe("get a --timeout 300ms").exit, 5);

    let endless = setup.pipe("put a 1 --timeout 500000000000years");
    assert_eq!((endless.exit, endless.err.contains("100 years")), (2, true), "{endless:?}");

    let big = vec![b'x'; proto::limits::VALUE_BYTES_MAX + 1];
    let put = setup.fed("put a", &big);
    assert_eq!((put.exit, put.err.contains("KV1004")), (8, true));
    setup.runtime.block_on(async {
        for node in &setup.cluster.nodes {
            node.stop();
        }
    });
    let put = setup.pipe("put a 1");
    assert_eq!(put.exit, 5, "{put:?}");
    assert!(put.err.contains("KV1801") && put.err.contains("write to \"a\""), "{put:?}");
}

#[test]
fn what_is_not_configured_or_not_private_exits_2() {
    let setup = Setup::new(1);
    let mut vars = setup.vars();
    vars.remove("KV_ENDPOINTS");
    let get = run_in(words("get a"), Seat::Pipe, b"", vars);
    assert_eq!((get.exit, get.err.contains("KV1803")), (2, true), "{get:?}");
    assert_eq!(setup.pipe("frobnicate").exit, 2);
    assert_eq!(setup.pipe("get a --ca /nowhere").exit, 2);

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let key = setup.cluster.pki.path("alice.key");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let get = setup.pipe("get a");
        assert_eq!((get.exit, get.err.contains("KV1702")), (2, true), "{get:?}");
        assert!(get.err.contains("chmod 600"), "{get:?}");
    }
}

#[test]
fn a_foreign_certificate_exits_7() {
    let setup = Setup::new(1);
    let other = fake::Pki::new();
    let mut vars = setup.vars();
    vars.insert("KV_CERT", other.path("alice.crt").into());
    vars.insert("KV_KEY", other.path("alice.key").into());
    let put = run_in(words("put a 1"), Seat::Pipe, b"", vars);
    assert_eq!(put.exit, 7);
    assert!(put.err.contains("the node rejected our certificate"), "{put:?}");
    assert!(put.err.contains("NOT applied"), "{put:?}");
}

#[test]
fn a_reader_that_hangs_up_is_no_failure() {
    let setup = Setup::new(1);
    setup.pipe("put a 1").prints("");
    let vars = setup.vars();
    for line in [
        "get a",
        "ls",
        "export",
        "history a",
        "cluster members",
        "version",
        "options",
        "completion bash",
        "--help",
    ] {
        let err = Captured::default();
        let vars = vars.clone();
        let mut terminal = Terminal {
            stdin: Box::new(io::empty()),
            stdout: Box::new(HungUp),
            stderr: Box::new(err.clone()),
            stdin_is_tty: false,
            stdout_is_tty: false,
            stderr_is_tty: false,
            env: Box::new(move |name| vars.get(name).cloned()),
        };
        assert_eq!(cli::run(words(line), &mut terminal), 0, "{line}");
        assert_eq!(err.0.lock().unwrap().len(), 0, "{line}");
    }
}

#[test]
fn contexts_are_kept_and_used() {
    let setup = Setup::new(1);
    let mut bare = setup.vars();
    for name in ["KV_ENDPOINTS", "KV_CA", "KV_CERT", "KV_KEY"] {
        bare.remove(name);
    }
    let run = |line: &str| run_in(words(line), Seat::Pipe, b"", bare.clone());
    assert_eq!(run("context add").exit, 2);
    assert_eq!(run("context add x --endpoints a:1").exit, 2);
    let [ca, cert, key] =
        ["ca.crt", "alice.crt", "alice.key"].map(|file| setup.cluster.pki.path(file));
    let files = format!("--ca {} --cert {} --key {}", ca.display(), cert.display(), key.display());
    let endpoint = &setup.cluster.nodes[0].address;
    run(&format!("context add one --endpoints {endpoint} {files}")).prints("");
    run(&format!("context add two --endpoints 127.0.0.1:1 {files}")).prints("");
    run("put a 1").prints("");
    run("get a").prints("1");
    assert_eq!(run("get a --context two").exit, 5);
    run("context use two").prints("");
    assert_eq!(run("get a").exit, 5);
    run("get a --context one").prints("1");
    run("context ls").prints(&format!("one\t\t{endpoint}\ntwo\t*\t127.0.0.1:1\n"));
    assert!(run("context show").text().contains("127.0.0.1:1"));
    assert!(run("context show one").text().contains(endpoint));
    assert_eq!(run("context check").exit, 5);
    run("context check one").prints(&format!("{endpoint}  ok n1 of dev\n"));
    assert_eq!(run("context use nope").exit, 2);
    run("context -").prints("");
    run("get a").prints("1");
    run("context -").prints("");
    assert_eq!(run("get a").exit, 5);
    run("context rm one").prints("");
    assert_eq!(run("context -").exit, 2);
    run("context rm two").prints("");
    assert_eq!((run("context rm two").exit, run("get a").exit), (2, 2));
}

#[test]
fn certificates_are_made_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    let run = |line: &str| {
        let line = format!("{line} --dir {}", pki.display());
        run_in(words(&line), Seat::Pipe, b"", HashMap::new())
    };
    assert_eq!(run("cert issue client alice").exit, 3);
    let made = run("cert init-ca");
    made.prints(&format!("{0}/ca.crt\n{0}/ca.key\n", pki.display()));
    assert_eq!(run("cert issue node n1 --host 127.0.0.1 --host localhost").exit, 0);
    assert_eq!(run("cert issue client alice").exit, 0);
    let again = run("cert issue client alice");
    assert_eq!((again.exit, again.err.contains("not overwritten")), (2, true), "{again:?}");
    assert!(again.err.contains("--renew"), "{again:?}");
    let serial = |name: &str| pki::CertificateInfo::from_pem_file(&pki.join(name)).unwrap().serial;
    for (line, file) in [("client alice", "alice.crt"), ("node n1", "n1.crt")] {
        let before = serial(file);
        let renewed = run(&format!("cert issue {line} --renew"));
        renewed.prints(&format!(
            "{0}/{file}\n{0}/{1}\n",
            pki.display(),
            file.replace("crt", "key")
        ));
        assert_ne!(serial(file), before);
    }
    assert_eq!(run("cert issue client bob --renew").exit, 3);
    let other = run("cert issue node alice --renew");
    assert_eq!((other.exit, other.err.contains("not the certificate of node alice")), (2, true));
    assert_eq!(run("cert issue node n2").exit, 2);
    let listed = run("cert ls");
    let names: Vec<_> =
        listed.text().lines().map(|line| line.split('\t').take(2).collect::<Vec<_>>()).collect();
    assert_eq!((&names[0][..], &names[2][..]), (&["alice", "client"][..], &["n1", "node"][..]));
    assert_eq!(names[1][1], "ca");
    let alice = pki::CertificateInfo::from_pem_file(&pki.join("alice.crt")).unwrap();
    assert_eq!(alice.identity.unwrap().to_string(), "kv:///client/alice");
}

#[test]
fn pages_versions_and_completions_are_printed() {
    let run = |line: &str| run_in(words(line), Seat::Pipe, b"", HashMap::new());
    let page = run("explain kv1201");
    assert!(page.text().starts_with("KV1201  no quorum\n  cause: "), "{page:?}");
    assert_eq!(json(run("explain 1201 -o json").text())["exit"], 5);
    assert_eq!(run("explain KV9999").exit, 2);
    run("version").prints(&format!("kv {}\n", client::version::text()));
    run("--version").prints(&format!("kv {}\n", client::version::text()));
    let version = json(run("version --json").text());
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["commit"], client::version::COMMIT);
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = run(&format!("completion {shell}"));
        assert!(script.exit == 0 && script.text().contains("cluster"), "{shell}");
    }
    let options = run("options");
    for flag in ["--endpoints", "--consistency", "--timeout", "--no-input", "KV_ENDPOINTS"] {
        assert!(options.text().contains(flag), "{flag}: {options:?}");
    }
    let help = run("get -h");
    assert!(help.exit == 0 && !help.text().contains("--endpoints"), "{help:?}");
    assert!(run("get --help").text().contains("--endpoints"));
    assert!(run("--color=always get nope --ca").exit == 2);
}

fn status() -> v1::StatusReply {
    let expiry = std::time::SystemTime::now() + Duration::from_secs(29 * 24 * 60 * 60 + 3_600);
    let expiry = expiry.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let node = |id: u64, role: v1::Role, state: &str, applied: u64, lag, rtt_us| v1::NodeStatus {
        member: Some(v1::Member { id, name: format!("n{id}"), ..Default::default() }),
        role: role as i32,
        state: state.into(),
        term: 7,
        applied,
        lag,
        rtt_us,
        db_bytes: 3_250_586,
        certificate_expiry: expiry,
        ..Default::default()
    };
    v1::StatusReply {
        cluster_name: "dev".into(),
        node: "n1".into(),
        revision: 1_204,
        voters: 3,
        reachable: 3,
        nodes: vec![
            node(1, v1::Role::Leader, "serving", 1_204, 0, 0),
            node(2, v1::Role::Follower, "serving", 1_204, 0, 300),
            node(3, v1::Role::Follower, "serving", 1_204, 0, 41_000),
        ],
        ..Default::default()
    }
}

#[test]
fn cluster_status_is_a_verdict_and_a_table() {
    let setup = Setup::new(1);
    let node = &setup.cluster.nodes[0];
    node.set_status(status());
    setup.person("cluster status").prints(
        "CLUSTER dev  revision 1 204  quorum 2 of 3  healthy\n\
         NODE  ROLE      STATE    TERM  APPLIED  LAG  RTT     DB       CERT\n\
         n1    leader    serving  7     1 204    0    0.0 ms  3.1 MiB  29 d\n\
         n2    follower  serving  7     1 204    0    0.3 ms  3.1 MiB  29 d\n\
         n3    follower  serving  7     1 204    0    41 ms   3.1 MiB  29 d\n",
    );
    let lines = setup.pipe("cluster status");
    assert_eq!(lines.text().lines().count(), 3);
    let first = json(lines.text().lines().next().unwrap());
    assert_eq!((&first["role"], &first["schema"]), (&"leader".into(), &1.into()));

    let mut slow = status();
    slow.nodes[2].state = "slow".into();
    slow.nodes[2].lag = 24;
    node.set_status(slow);
    let text = setup.person("cluster status");
    assert!(text.text().contains("quorum 2 of 3  degraded: n3 slow\n"), "{text:?}");
    assert!(text.text().contains("note: n3 is 24 entries behind"), "{text:?}");

    let mut gone = status();
    gone.reachable = 1;
    for node in &mut gone.nodes[1..] {
        node.state = "unreachable".into();
        node.silent_ms = 14_000;
    }
    node.set_status(gone);
    let found = json(setup.pipe("cluster status -o json").text());
    assert_eq!((&found["verdict"], &found["quorum"]), (&"NO QUORUM".into(), &2.into()));
    assert_eq!(found["notes"][0], "n2 was not heard by n1 for 14.0 s");
}

/// A node that took two writes alone and keeps a delete in mind, and one that is not compared with yet.
fn apart() -> v1::StatusReply {
    let mut reply = status();
    let compared = v1::ClockComparison {
        ago_ms: 14_000,
        lacked_here: 3,
        lacked_there: 2_204,
        roots_agree: false,
    };
    let traffic = v1::Traffic { sessions_sent: 1_000, rumors_sent: 24, ..Default::default() };
    let n2 = v1::PeerConvergence {
        node: 2,
        compared: Some(compared),
        vitality: v1::Vitality::Down.into(),
        offset_us: Some(-1_500),
        round_trip_us: Some(400),
        lag_ms: 14_000,
        blocked_certificates: 1_000,
        traffic: Some(traffic),
        ..Default::default()
    };
    let n3 = v1::PeerConvergence { node: 3, linked: true, ..Default::default() };
    reply.nodes[0].convergence = Some(v1::Convergence {
        unreplicated_writes: 2,
        certificates: 1_000,
        conflicts: 4,
        holes: 5,
        flagged_sessions: 6,
        traffic: Some(traffic),
        peers: vec![n2, n3],
        ..Default::default()
    });
    reply.nodes[1].convergence = Some(v1::Convergence { recovering: true, ..Default::default() });
    reply
}

#[test]
fn cluster_status_shows_how_far_eventual_keyspaces_agree() {
    let setup = Setup::new(1);
    let node = &setup.cluster.nodes[0];
    node.set_status(apart());
    let text = setup.person("cluster status -v");
    let find = |first: &str, second: &str| {
        let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mut lines = text.text().lines().map(fields);
        let found = lines.find(|line| line.len() > 1 && line[0] == first && line[1] == second);
        found.unwrap_or_else(|| panic!("no line {first} {second}: {text:?}")).join(" ")
    };
    assert_eq!(
        find("EVENTUAL", "STATE"),
        "EVENTUAL STATE UNREPLICATED LAG DELETES CONFLICTS HOLES FLAGGED"
    );
    assert_eq!(find("n2", "recovering"), "n2 recovering 0 0.0 ms 0 0 0 0");
    assert_eq!(
        find("n2", "n1"),
        "n2 n1 down 14.0 s ago 2 204 3 differ 14.0 s -1.5 ms 1 000 1.0 KiB 0 B"
    );
    assert_eq!(find("n3", "n1"), "n3 n1 unknown - - - - 0.0 ms - 0 0 B 0 B");
    assert_eq!(find("n1", "serving"), "n1 serving 2 14.0 s 1 000 4 5 6");
    for note in [
        "note: n1 took 2 writes that no other node is known to have\n",
        "note: n1 keeps 1 000 deletes in mind until n2 has them\n",
    ] {
        assert!(text.text().contains(note), "{note} is missing: {text:?}");
    }
    let brief = setup.person("cluster status");
    assert!(!brief.text().contains("EVENTUAL") && brief.text().contains("took 2 writes"));

    let found = json(setup.pipe("cluster status -o json").text());
    let said = &found["nodes"][0]["convergence"];
    assert_eq!((&said["unreplicated_writes"], &said["lag_ms"]), (&2.into(), &14_000.into()));
    assert_eq!(said["peers"][0]["name"], "n2");
    assert_eq!(said["peers"][0]["seems"], "down");
    assert_eq!(said["peers"][0]["offset_us"], -1_500);
    assert!(said["peers"][1]["offset_us"].is_null(), "{said}");
    assert_eq!(said["peers"][0]["compared"]["lacked_there"], 2_204);
    assert_eq!(said["peers"][0]["bytes"]["rumors_sent"], 24);
    assert!(said["peers"][1]["compared"].is_null(), "{said}");
    assert!(found["nodes"][2].get("convergence").is_none(), "{found}");

    node.set_status(status());
    let text = setup.person("cluster status -v");
    assert!(text.text().contains("no node serves eventual keyspaces"), "{text:?}");
}

#[test]
fn colour_follows_the_flag_and_the_environment() {
    let setup = Setup::new(1);
    let seat = |line: &str, seat: Seat, with: &[(&'static str, &str)]| {
        let mut vars = setup.vars();
        vars.remove("NO_COLOR");
        for (name, value) in with {
            vars.insert(name, value.into());
        }
        run_in(words(line), seat, b"", vars).err.contains('\u{1b}')
    };
    assert!(seat("put a 1", Seat::Person, &[]));
    assert!(!seat("get nope", Seat::Pipe, &[]));
    assert!(seat("get nope", Seat::Pipe, &[("CLICOLOR_FORCE", "1")]));
    assert!(!seat("get nope", Seat::Pipe, &[("CLICOLOR_FORCE", "0")]));
    assert!(seat("get nope --color always", Seat::Pipe, &[("NO_COLOR", "1")]));
    for (line, with) in [
        ("put a 1", &[("NO_COLOR", "1")][..]),
        ("put a 1", &[("TERM", "dumb")]),
        ("put a 1 --color never", &[]),
        ("put a 1", &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]),
    ] {
        assert!(!seat(line, Seat::Person, with), "{line} {with:?}");
    }
}

#[test]
fn bench_measures_and_asserts() {
    let setup = Setup::new(1);
    let line = "bench mixed --mix get=50,put=50 --duration 300ms --keys 50 --in-flight 8 -o json";
    let run = setup.pipe(line);
    assert_eq!(run.exit, 0, "{run:?}");
    let found = json(run.text());
    let all = &found["rows"][2];
    assert_eq!(all["op"], "all");
    assert!(all["ok"].as_u64().unwrap() > 10, "{found}");
    assert_eq!(all["sent"], all["ok"]);
    assert!(all["p50_us"].as_u64().unwrap() <= all["max_us"].as_u64().unwrap());
    assert_eq!(setup.cluster.shared.lock().unwrap().items.len(), 50);

    let rate = setup.pipe("bench get --rate 200 --duration 500ms --keys 50 -o json");
    let found = json(rate.text());
    assert_eq!((&found["rows"][0]["sent"], &found["missed"]), (&100.into(), &0.into()), "{found}");

    let hopeless = "bench put --duration 100ms --assert p99<1us,fail=0 -o json";
    let run = setup.pipe(hopeless);
    assert_eq!(run.exit, 9);
    assert_eq!(json(run.text())["failed_assertions"][0], "p99<1us");
    assert_eq!(setup.pipe("bench put --duration 100ms --assert fail=0").exit, 0);
    assert_eq!(setup.pipe("bench put --assert p98<1ms").exit, 2);
    assert_eq!(setup.pipe("bench mixed --mix x=1").exit, 2);
}

#[test]
fn a_stall_is_seen_by_all_operations_that_it_delays() {
    let setup = Setup::new(1);
    let node = &setup.cluster.nodes[0];
    setup.pipe("bench get --duration 10ms --keys 10").exit_is(0);
    // After the four pages of the count of the keys, one read hangs until its timeout. With one worker
    // it delays those that are due behind it.
    node.next([Act::Serve, Act::Serve, Act::Serve, Act::Serve, Act::Hang]);
    let line =
        "bench get --rate 100 --in-flight 1 --duration 600ms --timeout 300ms --keys 10 -o json";
    let found = json(setup.pipe(line).text());
    let row = &found["rows"][0];
    assert_eq!(row["fail"], 1, "{found}");
    // 29 of 60 were due during the stall of 300 ms; half of the answers waited long.
    assert!(row["p99_us"].as_u64().unwrap() > 200_000, "{found}");
}
