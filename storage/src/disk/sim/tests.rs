use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;

const SECTOR: usize = 512;

fn dir() -> PathBuf {
    PathBuf::from("/d")
}

fn path(name: &str) -> PathBuf {
    dir().join(name)
}

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(&dir()).unwrap();
    disk
}

fn create(disk: &SimDisk, name: &str) -> Box<dyn DiskFile> {
    disk.open(&path(name), OpenMode::CreateNew).unwrap()
}

fn content(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
    bytes
}

fn synced(disk: &SimDisk, name: &str, bytes: &[u8]) -> Box<dyn DiskFile> {
    let mut file = create(disk, name);
    file.write_at(0, bytes).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(&dir()).unwrap();
    file
}

fn images(disk: &SimDisk) -> Vec<SimDisk> {
    disk.images(usize::MAX, &mut ChaCha8Rng::seed_from_u64(1)).collect()
}

#[test]
fn reads_see_unsynced_writes_across_sectors() {
    let disk = disk();
    let mut file = create(&disk, "f");
    file.write_at(500, &[1; 600]).unwrap();
    file.write_at(510, &[2; 4]).unwrap();
    let mut expected = vec![0; 1100];
    expected[500..1100].fill(1);
    expected[510..514].fill(2);
    assert_eq!(content(&disk, &path("f")), expected);
    let mut part = [9; 8];
    assert_eq!(file.read_at(1096, &mut part).unwrap(), 4);
    assert_eq!(part, [1, 1, 1, 1, 9, 9, 9, 9]);
    assert_eq!(file.read_at(4096, &mut part).unwrap(), 0);
}

#[test]
fn b27_synced_bytes_and_names_survive_every_crash() {
    for seed in 0..50 {
        let disk = disk();
        let mut file = synced(&disk, "f", &[7; 3000]);
        file.write_at(0, &[8; 3000]).unwrap();
        disk.crash(&mut ChaCha8Rng::seed_from_u64(seed));
        let bytes = content(&disk, &path("f"));
        assert_eq!(bytes.len(), 3000);
        for sector in bytes.chunks(SECTOR) {
            assert!(sector.iter().all(|b| *b == 7) || sector.iter().all(|b| *b == 8));
        }
        assert!(file.write_at(0, b"dead").is_err(), "a handle from before the crash is dead");
    }
}

#[test]
fn unsynced_pages_tear_and_unsynced_names_vanish() {
    let (mut torn, mut absent, mut short) = (0, 0, 0);
    for seed in 0..100 {
        let disk = disk();
        let mut file = synced(&disk, "f", &[0; 4096]);
        file.write_at(0, &[1; 4096]).unwrap();
        file.write_at(4096, &[1; 512]).unwrap();
        drop(create(&disk, "g"));
        disk.crash(&mut ChaCha8Rng::seed_from_u64(seed));
        torn += disk.counters().torn_pages;
        absent += u32::from(disk.list(&dir()).unwrap() == ["f"]);
        short += u32::from(content(&disk, &path("f")).len() == 4096);
    }
    assert!(torn > 50, "{torn}");
    assert!((20..80).contains(&absent), "{absent}");
    assert!((20..80).contains(&short), "{short}");
}

#[test]
fn images_are_all_subsets_while_there_are_few_units() {
    let disk = disk();
    let mut file = synced(&disk, "f", &[0; 4096]);
    file.write_at(0, &[1; 1024]).unwrap();
    disk.rename(&path("f"), &path("g")).unwrap();
    let images = images(&disk);
    assert_eq!(images.len(), 8);
    let mut seen = BTreeSet::new();
    for image in &images {
        let name = image.list(&dir()).unwrap().remove(0);
        let bytes = content(image, &path(&name));
        seen.insert((name, bytes[0], bytes[512]));
    }
    assert_eq!(seen.len(), 8);
    assert_eq!(disk.list(&dir()).unwrap(), ["g"], "the disk itself is as it was");
}

#[test]
fn images_beyond_ten_units_are_pages_alone_in_pairs_and_random() {
    let disk = disk();
    let mut file = synced(&disk, "f", &[0; 4096 * 12]);
    file.write_at(0, &[1; 4096 * 12]).unwrap();
    assert_eq!(images(&disk).len(), 2 + 64 + 12 + 12 + 66);
    assert_eq!(disk.images(5, &mut ChaCha8Rng::seed_from_u64(1)).count(), 5);
    for image in images(&disk) {
        for page in content(&image, &path("f")).chunks(4096) {
            assert!(page.iter().all(|b| *b == page[0]), "a page is kept as a whole");
        }
    }
}

#[test]
fn b50_a_failed_sync_forgets_and_the_next_one_lies() {
    let disk = disk();
    let mut file = synced(&disk, "f", &[1; 512]);
    file.write_at(0, &[2; 512]).unwrap();
    disk.fail_next(Operation::Sync, io::ErrorKind::Other);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(content(&disk, &path("f")), [2; 512], "the cache still shows the write");
    let lost = images(&disk).iter().any(|image| content(image, &path("f")) == [1; 512]);
    assert!(lost, "the medium never got it");

    file.write_at(0, &[3; 512]).unwrap();
    file.sync_data().unwrap();
    assert!(images(&disk).iter().all(|image| content(image, &path("f")) == [3; 512]));
}

#[test]
fn b50_a_failed_sync_of_a_directory_forgets_its_changes() {
    let disk = disk();
    let file = synced(&disk, "f", b"first");
    drop(file);
    disk.rename(&path("f"), &path("g")).unwrap();
    disk.fail_next(Operation::SyncDir, io::ErrorKind::Other);
    assert!(disk.sync_dir(&dir()).is_err());
    disk.sync_dir(&dir()).unwrap();
    let names: BTreeSet<Vec<String>> =
        images(&disk).iter().map(|image| image.list(&dir()).unwrap()).collect();
    assert_eq!(names.len(), 2, "{names:?}");

    disk.remove_file(&path("g")).unwrap();
    synced(&disk, "g", b"second");
    assert!(images(&disk).iter().all(|image| content(image, &path("g")) == b"second"));
}

#[test]
fn faults_hit_the_named_operation_once() {
    let disk = disk();
    let mut file = create(&disk, "f");
    disk.fail_next(Operation::Write, io::ErrorKind::PermissionDenied);
    file.sync_data().unwrap();
    let refused = file.write_at(0, b"x").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    file.write_at(0, b"x").unwrap();

    disk.set_quota_bytes(Some(1000));
    let full = file.write_at(500, &[1; 501]).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    file.write_at(500, &[1; 500]).unwrap();
    assert_eq!(disk.used_bytes(), 1000);
    file.write_at(0, &[2; 1000]).unwrap();
}

#[test]
fn a_halt_stops_everything_until_the_crash() {
    let disk = disk();
    let mut file = synced(&disk, "f", b"old");
    let before = disk.counters().operations;
    disk.halt_at(before + 1);
    file.write_at(0, b"new").unwrap();
    assert!(file.sync_data().is_err());
    assert!(disk.list(&dir()).is_err());
    assert_eq!(disk.counters().operations, before + 1);
    disk.crash(&mut ChaCha8Rng::seed_from_u64(3));
    assert!(["old", "new"].map(str::as_bytes).contains(&content(&disk, &path("f")).as_slice()));
}

#[test]
fn flipped_bits_stay_flipped() {
    let disk = disk();
    let mut file = synced(&disk, "f", &[0; 1024]);
    file.write_at(0, &[1; 512]).unwrap();
    disk.flip_bit(&path("f"), 3, 7).unwrap();
    disk.flip_bit(&path("f"), 700, 0).unwrap();
    for image in images(&disk) {
        let bytes = content(&image, &path("f"));
        assert!([0x80, 0x81].contains(&bytes[3]));
        assert_eq!(bytes[700], 1);
    }
}

#[test]
fn a_renamed_directory_takes_its_files_with_it_or_stays() {
    let disk = disk();
    let (old, new) = (path("old"), path("new"));
    disk.create_dir_all(&old.join("below")).unwrap();
    let mut file = disk.open(&old.join("below/f"), OpenMode::CreateNew).unwrap();
    file.write_at(0, b"x").unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(&old.join("below")).unwrap();
    disk.rename(&old, &new).unwrap();
    assert_eq!(disk.list(&dir()).unwrap(), ["new"]);
    assert_eq!(content(&disk, &new.join("below/f")), b"x");
    drop(disk.open(&new.join("g"), OpenMode::CreateNew).unwrap());
    disk.sync_dir(&new).unwrap();
    let mut seen = BTreeSet::new();
    for image in images(&disk) {
        let names = image.list(&dir()).unwrap();
        let home = dir().join(&names[0]);
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(content(&image, &home.join("below/f")), b"x");
        assert_eq!(image.list(&home).unwrap(), ["below", "g"], "synced, whatever its directory");
        seen.insert(names);
    }
    assert_eq!(seen.len(), 2, "{seen:?}");

    disk.sync_dir(&dir()).unwrap();
    assert!(images(&disk).iter().all(|image| image.list(&dir()).unwrap() == ["new"]));
    disk.create_dir_all(&old).unwrap();
    let full = disk.rename(&old, &new).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::DirectoryNotEmpty);
}

#[test]
fn changes_below_a_renamed_directory_stay_undecided() {
    let disk = disk();
    let (old, new) = (path("old"), path("new"));
    disk.create_dir_all(&old).unwrap();
    drop(disk.open(&old.join("f"), OpenMode::CreateNew).unwrap());
    disk.rename(&old, &new).unwrap();
    disk.sync_dir(&dir()).unwrap();
    let listed = |image: &SimDisk| image.list(&new).unwrap();
    let seen: BTreeSet<Vec<String>> = images(&disk).iter().map(listed).collect();
    assert_eq!(seen.len(), 2, "the file's own name was not synced: {seen:?}");
    disk.sync_dir(&new).unwrap();
    assert!(images(&disk).iter().all(|image| listed(image) == ["f"]));
}

#[test]
fn a_file_moves_to_another_directory() {
    let disk = disk();
    let file = synced(&disk, "f", b"x");
    drop(file);
    disk.create_dir_all(&path("other")).unwrap();
    disk.rename(&path("f"), &path("other/f")).unwrap();
    for image in images(&disk) {
        let here = image.list(&dir()).unwrap().contains(&"f".to_owned());
        assert_eq!(image.list(&path("other")).unwrap().is_empty(), here, "in one place");
    }
    disk.sync_dir(&path("other")).unwrap();
    disk.sync_dir(&dir()).unwrap();
    assert!(images(&disk).iter().all(|image| content(image, &path("other/f")) == b"x"));
    let lost = disk.rename(&path("other/f"), &path("absent/f")).unwrap_err();
    assert_eq!(lost.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_full_disk_refuses_all_that_needs_room_until_there_is_some() {
    let disk = disk();
    let mut file = synced(&disk, "f", &[1; 512]);
    disk.set_full_at(Some(disk.counters().operations + 1));
    file.write_at(512, &[1; 1]).unwrap();
    let refused = [
        file.write_at(513, &[1; 1]).unwrap_err(),
        disk.open(&path("g"), OpenMode::CreateNew).unwrap_err(),
        disk.create_dir_all(&path("h")).unwrap_err(),
        disk.rename(&path("f"), &path("i")).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
    file.write_at(0, &[2; 512]).unwrap();
    file.sync_data().unwrap();
    disk.crash(&mut ChaCha8Rng::seed_from_u64(1));
    assert!(disk.open(&path("g"), OpenMode::CreateNew).is_err(), "full across a crash");
    disk.set_full_at(None);
    disk.open(&path("g"), OpenMode::CreateNew).unwrap();
}

#[test]
fn media_lose_mix_up_and_refuse_what_was_synced() {
    let disk = disk();
    drop(synced(&disk, "f", &[[1_u8; 512], [2; 512], [3; 512]].concat()));
    let old = disk.content(&path("f")).unwrap();
    disk.swap_blocks(&path("f"), 0, 2, 512).unwrap();
    assert_eq!(content(&disk, &path("f")), [[3_u8; 512], [2; 512], [1; 512]].concat());
    disk.truncate(&path("f"), 1000).unwrap();
    assert_eq!(content(&disk, &path("f")).len(), 1000);
    disk.replace(&path("f"), old.clone()).unwrap();
    disk.crash(&mut ChaCha8Rng::seed_from_u64(1));
    assert_eq!(content(&disk, &path("f")), old, "what is on the medium is durable");

    let mut file = disk.open(&path("f"), OpenMode::ReadWrite).unwrap();
    disk.break_sector(&path("f"), 600).unwrap();
    let mut buf = [0; 512];
    assert_eq!(file.read_at(0, &mut buf).unwrap(), 512);
    assert!(file.read_at(1, &mut buf).is_err());
    assert!(file.read_at(1023, &mut buf[..1]).is_err());
    assert_eq!(file.read_at(1024, &mut buf).unwrap(), 512);
    file.write_at(512, &[4; 512]).unwrap();
    assert_eq!(file.read_at(1, &mut buf).unwrap(), 512, "written again, it can be read");
}
