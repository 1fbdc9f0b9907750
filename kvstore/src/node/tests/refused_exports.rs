use super::*;
use crate::node::exports::Added;
use crate::shell::testing::logged;

/// While an export was written, a newer one came in and was found damaged. The round counted as one that
/// had gone well, its client heard that the log said why there was nothing, and the log said nothing.
#[test]
fn an_export_that_the_log_may_begin_behind_is_refused_aloud() {
    let mut alone = Alone::new(opened(&SimDisk::new()));
    // The node's addresses are in the catalogue then.
    alone.pass(30);
    alone.ask(put_request("a", b"1")).unwrap();
    let Ok(Reply::Export(first)) = alone.ask(Request::Export) else { panic!("no export") };
    alone.ask(put_request("b", b"1")).unwrap();
    alone.request(Request::Export);
    while alone.exporting.is_empty() {
        alone.node.step(Input::Tick);
        alone.poll();
    }
    // It is not of this one, which the newer one has.
    alone.request(put_request("c", b"1"));
    while alone.replies.is_empty() {
        alone.poll();
    }
    alone.replies.pop().unwrap().unwrap();
    let (group, index) = (GroupId::DATA, alone.node.data.applied());
    let mut newer = first.clone();
    newer.header.index = index;
    newer.path = "newer.exp".into();
    assert_eq!(alone.node.own_export(newer), Added::Newest);
    alone.node.step(Input::ExportDamaged { group, index });
    let log_bytes = alone.node.exports.log_bytes();

    let said = logged(|| {
        while alone.finished == 1 {
            alone.step_export();
        }
    });
    alone.poll();
    assert!(said.contains("the log may begin behind"), "{said}");
    let failure = failure(&mut alone);
    assert_eq!(failure.code, Code::ExportFailed);
    assert!(failure.why.contains("found damaged"), "{failure:?}");
    assert!(alone.node.exports.log_bytes() >= log_bytes, "the log is no shorter for that");
    assert_eq!(alone.exports_removed, 1);
    // Another one follows, as new as what was damaged.
    alone.pass(130);
    let newest = alone.node.exports.newest(group).map(|file| file.header.index);
    assert!(newest >= Some(index), "{newest:?}");
}
