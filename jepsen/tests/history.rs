//! Histories in all formats: what comes back, and that no input breaks the readers.

use jepsen::history::{self, Format, ReadOptions, read, stream, write, write_edn};
use jepsen::simulated::{Simulation, Values};
use jepsen::{Call, Function, Operation, Outcome, Value};
use proptest::prelude::*;

const PLAIN: ReadOptions = ReadOptions { keyed: false, format: None };
const KEYED: ReadOptions = ReadOptions { keyed: true, format: None };

fn parse(text: &str, options: &ReadOptions) -> Result<Vec<Operation>, String> {
    read(text.as_bytes(), options).map_err(|error| error.to_string())
}

fn simulated(seed: u64) -> Vec<Operation> {
    Simulation {
        seed,
        operations: 120,
        clients: 6,
        keys: 3,
        values: if seed.is_multiple_of(2) { Values::Unique } else { Values::Few(4) },
        cas: 20,
        crashes: 8,
        ..Simulation::default()
    }
    .run()
}

/// What both formats keep of an operation.
type Essence = (u64, String, Function, Option<Value>, Outcome, u64, u64);

/// What both formats keep, ordered by call.
fn essence(history: &[Operation]) -> Vec<Essence> {
    let mut all: Vec<Essence> = history
        .iter()
        .map(|o| {
            let (key, end) = (o.key.clone(), o.end_ns());
            (o.process, key, o.function, o.value.clone(), o.outcome, o.invoke_ns, end)
        })
        .collect();
    all.sort_by_key(|o| (o.5, o.0));
    all
}

#[test]
fn a_history_survives_both_formats() {
    for seed in 0..40 {
        let history = simulated(seed);
        let (mut json, mut edn) = (Vec::new(), Vec::new());
        write(&mut json, &history).unwrap();
        write_edn(&mut edn, &history).unwrap();
        let from_json = read(json.as_slice(), &PLAIN).unwrap();
        let from_edn = read(edn.as_slice(), &KEYED).unwrap();
        assert_eq!(essence(&from_json), essence(&history), "seed {seed}");
        // In EDN no two events have the same time.
        let without_times = |history: &[Operation]| -> Vec<_> {
            essence(history).into_iter().map(|o| (o.0, o.1, o.2, o.3, o.4)).collect()
        };
        assert_eq!(without_times(&from_edn), without_times(&history), "seed {seed}");
        let expected = |history: &[Operation]| -> Vec<_> {
            history.iter().map(|o| (o.process, o.expected.clone(), o.revision)).collect()
        };
        assert_eq!(expected(&from_edn), expected(&from_json), "seed {seed}");
    }
}

/// All that is known of an operation is in the file, whatever became of it.
#[test]
fn what_never_completed_keeps_its_node_and_its_error() {
    let call = |process| Operation::invoked(process, Call::write("k", "v"), 5 + process);
    let told = Operation {
        node: Some("n1".to_owned()),
        error: Some("deadline".to_owned()),
        level: Some("linearizable".to_owned()),
        revision: Some(7),
        at_revision: Some(6),
        ..call(0)
    };
    let returned = Operation { return_ns: Some(9), ..told.clone() };
    let late = [told, call(1), Operation { process: 2, invoke_ns: 7, ..returned }];
    let (mut json, mut edn) = (Vec::new(), Vec::new());
    write(&mut json, &late).unwrap();
    write_edn(&mut edn, &late).unwrap();
    assert_eq!(read(json.as_slice(), &PLAIN).unwrap(), late);
    assert_eq!(read(edn.as_slice(), &KEYED).unwrap(), late);
}

/// What the compact form leaves out can be read again.
#[test]
fn operations_are_picked_by_their_places() {
    let history = simulated(5);
    let mut file = Vec::new();
    write(&mut file, &history).unwrap();
    let whole = read(file.as_slice(), &PLAIN).unwrap();
    let corpus = history::corpus(file.as_slice(), &PLAIN).unwrap();
    assert_eq!(corpus.len(), whole.len());
    let picked = history::pick(file.as_slice(), &PLAIN, &corpus, &[3, 4, 100]).unwrap();
    assert_eq!(picked, [whole[3].clone(), whole[4].clone(), whole[100].clone()]);
    // Another file is told from the first one.
    let mut other = Vec::new();
    write(&mut other, &simulated(6)).unwrap();
    let error = history::pick(other.as_slice(), &PLAIN, &corpus, &[3, 4, 100]).unwrap_err();
    assert!(error.to_string().contains("another history"), "{error}");
    assert!(history::pick(&b""[..], &PLAIN, &corpus, &[3]).is_err());
}

#[test]
fn a_stream_hands_on_what_is_read() {
    let history = simulated(3);
    let mut file = Vec::new();
    write(&mut file, &history).unwrap();
    let mut streamed = Vec::new();
    stream(file.as_slice(), &PLAIN, |operation| streamed.push(operation)).unwrap();
    let ends: Vec<u64> = streamed.iter().filter_map(|o| o.return_ns).collect();
    assert!(ends.is_sorted(), "completed operations come in the order of their completions");
    assert_eq!(essence(&streamed), essence(&history));
}

#[test]
fn jepsens_histories_are_read() {
    let text = "\u{feff}; a comment with } in it\n\n\
        #jepsen.history.History [#jepsen.history.Op{:index 0, :process 0, :type :invoke, :f :cas, :value [nil 3], :time 10}\n\
        {:process :nemesis, :type :info, :f :start, :value {:n1 \"}\"}, :time 11}\n\
        {:process 1, :type :invoke, :f :read, :value nil, :time 11} {:process 0, :type :ok, :f :cas, :value [nil 3], :time 11}\n\
        {:process 1, :type :ok, :f :read, :value 3, :time 12, :extra #{1 2}}\n\
        {:process 2, :type :invoke, :f :write, :value 12345678901234567890N, :time 13}\n\
        {:process 2, :type :info, :f :write, :value :timed-out, :error [:timeout \"5 s\"], :time 14}]\n";
    let history = parse(text, &PLAIN);
    // Only a collection of maps is a history; a tag before it counts for nothing.
    let history = history.unwrap();
    assert_eq!(history.len(), 3);
    assert_eq!((history[0].expected.clone(), history[0].text()), (None, Some("3")));
    assert_eq!((history[1].text(), history[1].outcome), (Some("3"), Outcome::Ok));
    assert_eq!(history[2].text(), Some("12345678901234567890"));
    assert_eq!(history[2].error.as_deref(), Some("[\"timeout\" \"5 s\"]"));
    // The order in the file decides, so equal times are told apart.
    assert!(history[1].invoke_ns < history[0].end_ns());
    assert!(history[0].end_ns() < history[1].end_ns());
}

#[test]
fn keys_can_stand_in_the_values() {
    let text = "({:process 0 :type :invoke :f :write :value [7 1]}\n\
                 {:process 0 :type :ok :f :write :value [7 1]}\n\
                 {:process 0 :type :invoke :f :read :value [7 nil]}\n\
                 {:process 0 :type :ok :f :read :value [7 1]}\n\
                 {:process 0 :type :invoke :f :cas :value [\"k\" [1 2]]})";
    let history = parse(text, &KEYED).unwrap();
    let keys: Vec<&str> = history.iter().map(|operation| operation.key.as_str()).collect();
    assert_eq!(keys, ["7", "7", "k"]);
    assert_eq!((history[1].text(), history[2].text()), (Some("1"), Some("2")));
    assert_eq!(history[2].expected_text(), Some("1"));
    let json = "{\"process\":0,\"type\":\"invoke\",\"f\":\"write\",\"value\":[7,1]}\n";
    assert_eq!(parse(json, &KEYED).unwrap()[0].key, "7");
    let error = parse(&json.replace("[7,1]", "1"), &KEYED).unwrap_err();
    assert!(error.contains("line 1: in a keyed history"), "{error}");
}

#[test]
fn logs_are_read() {
    let text = "Picked up some options\n\
        INFO  jepsen.util - 0\t:invoke\t:write\t4\n\
        INFO  jepsen.util - :nemesis :info :start nil\n\
        INFO  jepsen.util - 1   :invoke :cas   [4 2]\n\
        java.lang.Exception: at core.clj\n\
        INFO  jepsen.util - 0 :ok :write 4\n\
        INFO  jepsen.util - 1 :info :cas :timed-out\n\
        INFO  jepsen.util - 2 :invoke :read nil\n\
        INFO  jepsen.util - 2 :ok :read nil\n";
    let history = parse(text, &PLAIN).unwrap();
    assert_eq!(history.len(), 3);
    assert_eq!((history[1].expected_text(), history[1].text()), (Some("4"), Some("2")));
    assert_eq!(
        (history[1].outcome, history[1].error.as_deref()),
        (Outcome::Info, Some("timed-out"))
    );
    assert_eq!((history[2].outcome, history[2].text()), (Outcome::Ok, None));
    assert!(history[0].end_ns() < history[2].invoke_ns);
}

#[test]
fn transactions_and_sets_keep_their_shape() {
    let text = "{:process 0, :type :invoke, :f :txn, :value [[:append 1 2] [:r 3 nil]]}\n\
                {:process 0, :type :ok, :f :txn, :value [[:append 1 2] [:r 3 [4 5]]]}\n\
                {:process 0, :type :invoke, :f :read, :value nil}\n\
                {:process 0, :type :ok, :f :read, :value #{1 2}}\n\
                {:process 0, :type :invoke, :f :get, :key \"x\", :value nil}\n\
                {:process 0, :type :ok, :f :get, :key \"x\", :value \"\"}\n";
    let history = parse(text, &PLAIN).unwrap();
    assert_eq!(
        history[0].value.as_ref().unwrap().to_string(),
        "[[\"append\" \"1\" \"2\"] [\"r\" \"3\" [\"4\" \"5\"]]]"
    );
    assert_eq!(history[1].value, Some(["1", "2"].into_iter().collect()));
    assert_eq!((history[2].key.as_str(), history[2].text()), ("x", Some("")));
}

#[test]
fn broken_histories_are_refused_with_their_line() {
    let cases = [
        ("[{:process 0, :type :invoke, :f :read}\n", "the file ends before"),
        ("[{:process 0, :type :invoke, :f :read}\n {:process 0", "line 2: a form breaks off"),
        ("\n\n{:process 0, :type :ok, :f :read}", "line 3: process 0 completes an operation"),
        ("[{:process 0, :type :invoke, :f :read}] 7", "expected the end of the file"),
        ("{:process 0, :type :invoke, :f :read}]", "closes"),
        ("[{:process 0, :type :begin}]", "unknown type \"begin\""),
        ("[{:process 0, :type :invoke, :f :pop}]", "unknown function \"pop\""),
        ("[{:process -1, :type :invoke, :f :read}]", ":process is -1"),
        ("[{:type :invoke}]", "needs :process"),
        ("[7]", "expected a map"),
        ("[{:process 0, :type :invoke, :f :cas, :value 3}]", "the value of a cas is [old new]"),
        ("INFO  jepsen.util - 0 :ok :read 3", "line 1: process 0 completes an operation"),
        ("{\"process\":0", "expected `,` at the end of the line"),
        ("{\"process\":0.5,\"type\":\"ok\"}", "`process` is 0.5"),
        // A client with a name would be left out unseen.
        ("{\"process\":\"p1\",\"type\":\"invoke\",\"f\":\"read\"}", "is a number, not \"p1\""),
        ("{\"process\":null,\"type\":\"ok\"}", "is a number, not \"null\""),
        ("{:process :p1, :type :invoke, :f :read}", "is a number, not \"p1\""),
    ];
    for (text, expected) in cases {
        let error = parse(text, &PLAIN).unwrap_err();
        assert!(error.contains(expected), "{text}\n{error}");
    }
    let endless = format!("[{{:process 0 :value \"{}", "x".repeat(history::LINE_BYTES_MAX));
    let error = parse(&endless, &PLAIN).unwrap_err();
    assert!(error.contains("longer than"), "{error}");
}

/// Whatever an `ok` says instead of what was invoked, one of the two is wrong.
#[test]
fn a_completion_says_what_was_invoked() {
    let edn = |function: &str, invoked: &str, said: &str| {
        let event = |kind: &str, value: &str| {
            format!("{{:process 0, :type :{kind}, :f :{function}, :value {value}}}\n")
        };
        event("invoke", invoked) + &event("ok", said)
    };
    let json = "{\"process\":0,\"type\":\"invoke\",\"f\":\"write\",\"key\":\"k\",\"value\":1}\n\
                {\"process\":0,\"type\":\"ok\",\"value\":2}\n";
    let cases = [
        (json.to_owned(), PLAIN, "another write"),
        (edn("write", "1", "2"), PLAIN, "another write"),
        (edn("write", "1", "[1]"), PLAIN, "another write"),
        (edn("cas", "[1 2]", "[1 3]"), PLAIN, "another cas"),
        (edn("add", "1", "2"), PLAIN, "another add"),
        (edn("write", "[7 1]", "[7 2]"), KEYED, "another write"),
        (edn("write", "[7 1]", "[8 1]"), KEYED, "another key"),
    ];
    for (text, options, expected) in cases {
        let error = parse(&text, &options).unwrap_err();
        assert!(error.contains("line 2") && error.contains(expected), "{text}{error}");
    }
    let good = [
        (json.replace(":2}", ":1}"), PLAIN),
        (edn("write", "1", "nil"), PLAIN),
        (edn("cas", "[nil 2]", "[nil 2]"), PLAIN),
        (edn("cas", "[7 [1 2]]", "[7 [1 2]]"), KEYED),
        (edn("append", "[7 1]", "[7 nil]"), KEYED),
        (edn("txn", "[[:r 1 nil]]", "[[:r 1 2]]"), PLAIN),
    ];
    for (text, options) in good {
        assert_eq!(parse(&text, &options).unwrap().len(), 1, "{text}");
    }
}

/// Files of all formats, to be broken.
fn good_files() -> Vec<Vec<u8>> {
    let history = simulated(1);
    let (mut json, mut edn) = (Vec::new(), Vec::new());
    write(&mut json, &history[..40]).unwrap();
    write_edn(&mut edn, &history[..40]).unwrap();
    let log = "INFO  jepsen.util - 0\t:invoke\t:write\t4\nINFO  jepsen.util - 0 :ok :write 4\n";
    let mut open = Operation::invoked(0, Call::write("k", "a\"b\\c\u{1}ü"), 3);
    open.value = Some([Value::from(1), ["x", "y"].into_iter().collect()].into_iter().collect());
    let mut odd = Vec::new();
    write_edn(&mut odd, &[open]).unwrap();
    vec![json, edn, log.repeat(9).into_bytes(), odd]
}

/// Reads it every way; whatever comes out, nothing panics.
fn read_all(bytes: &[u8]) {
    for keyed in [false, true] {
        for format in [None, Some(Format::Json), Some(Format::Edn), Some(Format::Log)] {
            let _ = read(bytes, &ReadOptions { keyed, format });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_break_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn random_notation_breaks_nothing(text in "[\\[\\](){}#_^;:\"\\\\ \\n,0-9a-fnu+.NüM/'-]{0,80}") {
        read_all(text.as_bytes());
        read_all(format!("[{{:process 0, :type :invoke, :f :write, :value {text}}}]").as_bytes());
        read_all(
            format!("{{\"process\":0,\"type\":\"invoke\",\"f\":\"write\",\"value\":{text}}}").as_bytes(),
        );
        read_all(format!("INFO jepsen.util - 0 :invoke :write {text}").as_bytes());
    }

    #[test]
    fn changed_files_break_nothing(
        which in 0_usize..4,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..6),
    ) {
        let mut file = good_files().swap_remove(which);
        for (place, byte, how) in changes {
            let place = place.index(file.len());
            match how {
                0 => file[place] = byte,
                1 => file.truncate(place.max(1)),
                _ => file.insert(place, byte),
            }
        }
        read_all(&file);
    }

    #[test]
    fn values_survive_both_formats(texts in proptest::collection::vec(any::<String>(), 1..5)) {
        let mut operation = Operation::invoked(0, Call::write(texts[0].clone(), ""), 0);
        operation.value = Some(texts.iter().map(String::as_str).collect());
        let history = vec![operation];
        let (mut json, mut edn) = (Vec::new(), Vec::new());
        write(&mut json, &history).unwrap();
        write_edn(&mut edn, &history).unwrap();
        prop_assert_eq!(&read(json.as_slice(), &PLAIN).unwrap(), &history);
        let keyed = !texts[0].is_empty();
        prop_assert_eq!(&read(edn.as_slice(), &ReadOptions { keyed, format: None }).unwrap(), &history);
    }
}
