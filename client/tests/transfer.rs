//! The commands that move much: history, export, import, snapshot, and counts over many pages.

mod desk;
mod fake;

use std::time::{Duration, Instant};

use desk::{Seat, Setup, json, words};
use fake::{Act, operators};
use proto::{Applied, Code, Failure, v1};

#[test]
fn history_shows_all_versions_newest_first() {
    let setup = Setup::new(1);
    for value in ["1", "22", "333"] {
        setup.pipe(&format!("put a {value}")).prints("");
    }
    setup.pipe("del a").prints("1\n");
    setup.fed("put a", b"\xff\n").prints("");
    setup.pipe("history a").prints(
        "6\tput\t1\t2\t\\xff\\x0a\n5\tdel\n4\tput\t3\t3\t333\n3\tput\t2\t2\t22\n2\tput\t1\t1\t1\n",
    );
    setup.pipe("history a --limit 3 --keys-only").prints("6\tput\t1\t2\n5\tdel\n4\tput\t3\t3\n");
    let people = setup.person("history a --limit 3");
    people.prints(
        "REV  OP   VERSION  SIZE  VALUE\n6    put  1        2 B   ff0a\n\
                   5    del  -        -     -\n4    put  3        3 B   333\n",
    );
    assert_eq!(people.err, "note: older versions follow; raise --limit\n");

    let found = json(setup.pipe("history a -o json").text());
    assert_eq!(
        (&found["schema"], &found["key"], &found["at_rev"]),
        (&1.into(), &"a".into(), &6.into())
    );
    assert_eq!((&found["more"], &found["compacted"]), (&false.into(), &1.into()));
    let versions = found["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 5);
    assert_eq!((&versions[0]["op"], &versions[0]["value_b64"]), (&"put".into(), &"/wo=".into()));
    assert_eq!((&versions[1]["op"], &versions[1]["rev"]), (&"del".into(), &5.into()));
    assert_eq!((&versions[2]["value"], &versions[2]["version"]), (&"333".into(), &3.into()));
    let lines = setup.pipe("history a --limit 1 --keys-only -o jsonl");
    let found = json(lines.text());
    assert!(found.get("value").is_none() && found["size"] == 2, "{found}");
    assert_eq!(found["schema"], 1);

    let none = setup.pipe("history nope");
    assert_eq!((none.exit, none.text()), (3, ""));
    assert!(none.err.starts_with("error[KV1101]: history of \"nope\" failed"), "{none:?}");
    setup.pipe("history nope --missing-ok").prints("");
    assert_eq!(
        json(setup.pipe("history nope --missing-ok -o json").text())["versions"],
        json("[]")
    );
    setup.pipe("history a --limit 0").exit_is(2);
}

#[test]
fn counts_are_summed_over_pages_and_empty_pages_are_passed() {
    let setup = Setup::new(1);
    for at in 0..8 {
        setup.pipe(&format!("put k{at} 1")).prints("");
    }
    setup.pipe("ls --count").prints("8\n");
    let found = json(setup.pipe("ls k --count -o json").text());
    assert_eq!((&found["count"], &found["at_rev"]), (&8.into(), &9.into()));
    setup.pipe("del --prefix k --dry-run").prints("8\n");
    // A page that ends with a key of the greatest length is gone on from all the same.
    let longest = "k2".repeat(proto::limits::KEY_BYTES_MAX / 2);
    setup.pipe(&format!("put {longest} 1")).prints("");
    setup.pipe("del k0").prints("1\n");
    setup.cluster.shared.lock().unwrap().stepwise = true;
    assert_eq!(setup.pipe("ls --keys-only").text().lines().count(), 8);
    assert_eq!(setup.pipe("ls --keys-only --limit 5").text().lines().count(), 5);
    assert_eq!(setup.pipe("export").text().lines().count(), 8);
}

#[test]
fn the_timeout_of_a_list_counts_for_all_pages() {
    let setup = Setup::new(1);
    for at in 0..8 {
        setup.pipe(&format!("put k{at} 1")).prints("");
    }
    // The first page takes most of the time; the second one hangs for what is left, not for a whole.
    let wait = Duration::from_millis(500);
    let busy = Failure::new(Code::NotReady, "list", "it is starting").retry_after(wait);
    setup.cluster.nodes[0].next([Act::Refuse(busy), Act::Serve, Act::Hang, Act::Hang]);
    let started = Instant::now();
    let ran = setup.pipe("ls --timeout 800ms");
    let took = started.elapsed();
    assert_eq!((ran.exit, ran.text().lines().count()), (5, 3), "{ran:?}");
    assert!(took < Duration::from_millis(1_250), "{took:?}");
}

#[test]
fn what_is_exported_is_imported_byte_for_byte() {
    let (from, to) = (Setup::new(1), Setup::new(1));
    let binary: Vec<u8> = (0..=255).collect();
    {
        let mut shared = from.cluster.shared.lock().unwrap();
        for (key, value) in [
            (&b"plain"[..], &b"text"[..]),
            (b"empty", b""),
            (b"tab\tand\nline", b"\"quoted\" \\ \r\n"),
            (b"\xff\xfe", &binary),
            ("ä".as_bytes(), "\u{1f980}".as_bytes()),
            (b"\0", b"\0"),
            (b"zzz", b"1"),
        ] {
            let item = v1::Item {
                key: key.to_vec().into(),
                value: value.to_vec().into(),
                ..Default::default()
            };
            shared.items.insert(key.to_vec(), item);
        }
    }
    let exported = from.pipe("export");
    exported.exit_is(0);
    assert_eq!(exported.err, "exported 7 keys, 309 B, as of revision 1\n");
    assert!(exported.text().contains(r#"{"key":"plain","value":"text"}"#), "{exported:?}");
    assert!(exported.text().contains(r#"{"key_b64":"//4=","value_b64":"#), "{exported:?}");
    let file = to.config.path().join("all.jsonl");
    std::fs::write(&file, &exported.out).unwrap();
    let imported = to.pipe(&format!("import {}", file.display()));
    imported.prints("written\t7\nskipped\t0\nbad\t0\nfailed\t0\nunknown\t0\n");
    assert_eq!(imported.err, "");
    assert_eq!(to.pipe("export").out, exported.out);
    let prefixed = from.pipe("export pl -q");
    prefixed.prints("{\"key\":\"plain\",\"value\":\"text\"}\n");
    assert_eq!(prefixed.err, "");
    from.pipe("export nope").prints("");
}

#[test]
fn an_import_leaves_existing_keys_alone_if_asked() {
    let setup = Setup::new(1);
    setup.pipe("put a old").prints("");
    let lines = b"{\"key\":\"a\",\"value\":\"new\"}\n{\"key\":\"b\",\"value\":\"new\"}\n";
    let ran = setup.fed("import - --if-absent -o json", lines);
    ran.exit_is(0);
    let found = json(ran.text());
    assert_eq!(
        (&found["schema"], &found["written"], &found["skipped"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!(found["complete"], true);
    setup.pipe("get a").prints("old");
    setup.fed("import -", lines).exit_is(0);
    setup.pipe("get a").prints("new");
}

#[test]
fn the_last_line_of_a_key_wins_and_writes_are_bounded() {
    let setup = Setup::new(1);
    let mut lines = String::new();
    for at in 0..300 {
        lines.push_str(&format!("{{\"key\":\"k{}\",\"value\":\"{at}\"}}\n", at % 3));
    }
    for at in 0..100 {
        lines.push_str(&format!("{{\"key\":\"x{at}\",\"value\":\"1\"}}\n"));
    }
    let ran = setup.fed("import - --jobs 4 -o json", lines.as_bytes());
    assert_eq!(json(ran.text())["written"], 400, "{ran:?}");
    for (key, value) in [("k0", "297"), ("k1", "298"), ("k2", "299")] {
        assert_eq!(setup.cluster.value(key).as_deref(), Some(value));
    }
    let most = setup.cluster.shared.lock().unwrap().puts_open_max;
    assert!((1..=4).contains(&most), "{most}");
    setup.fed("import - --jobs 0", b"").exit_is(2);
    setup.fed("import -", b"").prints("written\t0\nskipped\t0\nbad\t0\nfailed\t0\nunknown\t0\n");
}

#[test]
fn bad_lines_are_named_and_the_others_written() {
    let setup = Setup::new(1);
    let lines = b"{\"key\":\"a\",\"value\":\"1\"}\n\n{\"key\":\"b\"}\nnonsense\n\
                  {\"key\":\"c\",\"value\":\"3\"}\n{\"key\":\"d\",\"valeu\":\"4\"}\n";
    let ran = setup.fed("import -", lines);
    ran.exit_is(10);
    assert_eq!(ran.text(), "written\t2\nskipped\t0\nbad\t3\nfailed\t0\nunknown\t0\n");
    let named: Vec<&str> = ran.err.lines().collect();
    assert_eq!(named[0], "error: line 3: name value or value_b64");
    assert!(named[1].starts_with("error: line 4: expected"), "{ran:?}");
    assert!(named[2].starts_with("error: line 6: unknown field `valeu`"), "{ran:?}");
    let ran = setup.fed("import - -o json", lines);
    ran.exit_is(10);
    let found = json(ran.text());
    assert_eq!((&found["bad"], &found["bad_lines"][0]["line"]), (&3.into(), &3.into()));
    let person = setup.run(words("import -"), Seat::Person, lines);
    assert_eq!((person.exit, person.text()), (10, "imported 2 keys  3 bad lines\n"));

    let nothing = setup.fed("import -", b"x\n".repeat(30).as_slice());
    nothing.exit_is(2);
    assert!(nothing.err.contains("and 10 more bad lines"), "{nothing:?}");
    assert!(nothing.err.contains("all 30 lines are bad"), "{nothing:?}");
    setup.pipe("import /nowhere/x").exit_is(3);
    let revision = setup.cluster.shared.lock().unwrap().revision;
    setup.pipe(&format!("import {}", setup.config.path().display())).exit_is(1);
    assert_eq!(setup.cluster.shared.lock().unwrap().revision, revision);
}

#[test]
fn an_import_that_fails_midway_says_how_far_it_came() {
    let setup = Setup::new(1);
    let mut lines = String::new();
    for at in 0..10 {
        lines.push_str(&format!("{{\"key\":\"k{at}\",\"value\":\"1\"}}\n"));
    }
    let full = || {
        let why = "10 of 10 keys are used";
        Failure::new(Code::KeyspaceFull, "write to \"k2\"", why).applied(Applied::No)
    };
    let node = &setup.cluster.nodes[0];
    node.next([Act::Serve, Act::Serve]).always(Act::Refuse(full()));
    let ran = setup.fed("import - --jobs 1", lines.as_bytes());
    ran.exit_is(10);
    assert_eq!(ran.text(), "written\t2\nskipped\t0\nbad\t0\nfailed\t1\nunknown\t0\n");
    assert!(ran.err.starts_with("error[KV1504]: line 3: write to \"k2\" refused"), "{ran:?}");
    let nothing = setup.fed("import - --jobs 1", lines.as_bytes());
    assert_eq!((nothing.exit, nothing.err.contains("NOT applied")), (8, true), "{nothing:?}");

    // Of all that failed, what may have been written is told.
    node.next([Act::Refuse(full()), Act::Hang]);
    let ran = setup.fed("import - --jobs 2 --timeout 800ms -o json", lines.as_bytes());
    ran.exit_is(6);
    let found = json(ran.text());
    assert_eq!((&found["failed"], &found["unknown"]), (&1.into(), &1.into()), "{ran:?}");
    assert_eq!(found["complete"], false);
    assert_eq!(json(&ran.err)["error"]["applied"], "unknown");
}

fn snapshot(setup: &Setup, parts: Vec<v1::SnapshotPart>) {
    setup.cluster.shared.lock().unwrap().operators.snapshot = parts;
}

/// What lies beside the file.
fn names(setup: &Setup) -> Vec<String> {
    let entries = std::fs::read_dir(setup.config.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_snapshot_is_saved_whole() {
    let setup = Setup::new(2);
    let bytes: Vec<u8> = b"0123456789".repeat(30_000);
    snapshot(&setup, operators::parts(&bytes, 64 * 1024));
    let file = setup.config.path().join("backup.exp");
    let line = format!("snapshot save {}", file.display());
    let saved = setup.pipe(&line);
    saved.exit_is(0);
    let (size, hash) = saved.text().trim_end().split_once('\t').unwrap();
    assert_eq!((size, hash.len()), ("300000", 64));
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    assert_eq!(names(&setup), ["backup.exp"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    let again = setup.pipe(&line);
    assert_eq!((again.exit, again.err.contains("--force")), (2, true), "{again:?}");
    let again = setup.pipe(&format!("{line} --force -o json"));
    let found = json(again.text());
    assert_eq!((&found["schema"], &found["bytes"]), (&1.into(), &300_000.into()));
    assert_eq!(found["sha256"], hash);
    let person = setup.person(&format!("{line} --force"));
    let expected = format!("saved {}  293.0 KiB  sha256 {hash}\n", file.display());
    person.prints(&expected);
}

#[test]
fn the_sum_of_a_snapshot_is_that_of_its_bytes() {
    let setup = Setup::new(1);
    snapshot(&setup, operators::parts(b"abc", 2));
    let file = setup.config.path().join("backup.exp");
    let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    setup.pipe(&format!("snapshot save {}", file.display())).prints(&format!("3\t{sha256}\n"));
}

#[test]
fn a_snapshot_that_is_not_whole_leaves_nothing() {
    let setup = Setup::new(1);
    let whole = operators::parts(b"0123456789", 4);
    let mut longer = whole.clone();
    longer.push(v1::SnapshotPart { data: "x".into(), total: 10, cover: None });
    let mut changed = whole.clone();
    changed[1].total = 11;
    let file = setup.config.path().join("backup.exp");
    let line = format!("snapshot save {} --timeout 1s", file.display());
    for (parts, why) in [
        (whole[..2].to_vec(), "the stream ended early: 8 of 10 bytes"),
        (vec![], "the stream ended early: 0 of 0 bytes"),
        (longer, "more bytes came than announced: 11 of 10 bytes"),
        (changed, "a later part says 11 bytes"),
    ] {
        snapshot(&setup, parts);
        let ran = setup.pipe(&line);
        assert_eq!((ran.exit, ran.text()), (9, ""), "{ran:?}");
        assert!(ran.err.starts_with("error[KV1709]: snapshot failed"), "{ran:?}");
        assert!(ran.err.contains(why), "{ran:?}");
        assert!(names(&setup).is_empty());
    }
    snapshot(&setup, whole[..2].to_vec());
    setup.cluster.shared.lock().unwrap().operators.snapshot_hangs = true;
    let ran = setup.pipe(&line);
    assert_eq!((ran.exit, ran.err.contains("no part within 1000 ms")), (5, true), "{ran:?}");
    assert!(names(&setup).is_empty());
    setup.pipe("snapshot save /nowhere/backup.exp").exit_is(1);
}

#[test]
fn the_library_saves_a_snapshot_too() {
    let setup = Setup::new(2);
    snapshot(&setup, operators::parts(b"0123456789", 3));
    // The first node does not answer; no part was read, so that another one may be asked.
    setup.cluster.nodes[0].always(Act::Hang);
    let timeout = Some(Duration::from_secs(3));
    let options = client::CallOptions { timeout, ..Default::default() };
    let (length, bytes) = setup.runtime.block_on(async {
        let mut bytes = Vec::new();
        let length = setup.cluster.client().save_snapshot(&mut bytes, &options).await;
        (length.unwrap(), bytes)
    });
    assert_eq!((length, &bytes[..]), (10, &b"0123456789"[..]));
}
