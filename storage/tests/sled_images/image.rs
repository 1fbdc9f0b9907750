//! The files of a store, in memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Files of a store by name; `blobs/` is empty and only made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Image {
    /// Copies the files in `dir`, also while a store is open on them.
    pub fn of(dir: &Path) -> Self {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
        Self { files }
    }

    /// The same with other content of `name`.
    pub fn with(&self, name: &str, content: Vec<u8>) -> Self {
        let mut image = self.clone();
        image.files.insert(name.to_owned(), content);
        image
    }

    pub fn without(&self, name: &str) -> Self {
        let mut image = self.clone();
        image.files.remove(name).unwrap();
        image
    }

    /// Name of the only snapshot.
    pub fn snapshot(&self) -> &str {
        let mut names = self.files.keys().filter(|name| name.starts_with("snap."));
        let name = names.next().expect("a snapshot");
        assert_eq!(names.next(), None);
        name
    }

    /// Puts the files into `dir`, which is made anew.
    pub fn put(&self, dir: &Path) {
        if dir.exists() {
            fs::remove_dir_all(dir).unwrap();
        }
        fs::create_dir_all(dir.join("blobs")).unwrap();
        for (name, content) in &self.files {
            fs::write(dir.join(name), content).unwrap();
        }
    }
}
