use super::*;
use flate2::read::MultiGzDecoder;
use std::{io::Read, os::unix::fs::PermissionsExt};

/// Removed at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let name = format!("warren-archive-{}", Uuid::now_v7().simple());
        Self(std::env::temp_dir().join(name))
    }

    fn folder(&self) -> Folder {
        Folder::new(self.0.clone(), 1 << 20)
    }

    /// File names and what is in them, in order.
    fn files(&self) -> Vec<(String, String)> {
        let mut files: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        files
            .iter()
            .map(|path| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                let mut text = String::new();
                let file = File::open(path).unwrap();
                MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
                (name, text)
            })
            .collect()
    }

    fn texts(&self) -> Vec<String> {
        self.files().into_iter().map(|(_, text)| text).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn batch(folder: &mut Folder, lines: &[&str], today: &str) {
    folder.begin(day(today)).unwrap();
    for line in lines {
        folder.write(line.as_bytes()).unwrap();
    }
    folder.commit().unwrap();
}

#[test]
fn batches_of_a_day_are_one_file_for_the_service_alone() {
    let place = Place::new();
    let mut folder = place.folder();
    batch(&mut folder, &["1", "2"], "2026-11-25");
    batch(&mut folder, &["3"], "2026-11-25");
    batch(&mut folder, &[], "2026-11-25");
    let files = place.files();
    assert_eq!(files.len(), 1);
    let (name, text) = &files[0];
    assert!(name.starts_with("tasks-2026-11-25-") && name.ends_with(".jsonl.gz.part"));
    assert_eq!(text, "1\n2\n3\n");
    let path = place.0.join(name);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&place.0)), (0o600, 0o700));
    // The next day's batch closes it, and so does the end of the process.
    batch(&mut folder, &["4"], "2026-11-26");
    drop(folder);
    let files = place.files();
    assert!(files.iter().all(|(name, _)| !name.ends_with(PART)));
    assert_eq!(place.texts(), ["1\n2\n3\n", "4\n"]);
}

#[test]
fn a_file_that_is_large_enough_is_closed() {
    let place = Place::new();
    let mut folder = Folder::new(place.0.clone(), 1);
    batch(&mut folder, &["1"], "2026-11-25");
    batch(&mut folder, &["2"], "2026-11-25");
    folder.tend(day("2026-11-25")).unwrap();
    assert_eq!(place.texts(), ["1\n", "2\n"]);
    assert!(place.files().iter().all(|(name, _)| !name.ends_with(PART)));
}

#[test]
fn what_is_abandoned_leaves_nothing() {
    let place = Place::new();
    let mut folder = place.folder();
    batch(&mut folder, &["1"], "2026-11-25");
    folder.begin(day("2026-11-25")).unwrap();
    // More than what the encoder keeps to itself.
    let noise: String = (0..40_000).map(|_| Uuid::new_v4().to_string()).collect();
    folder.write(noise.as_bytes()).unwrap();
    folder.abandon();
    batch(&mut folder, &["2"], "2026-11-25");
    drop(folder);
    assert_eq!(place.texts(), ["1\n2\n"]);
}

#[test]
fn what_a_dead_process_left_is_cut_and_completed() {
    let place = Place::new();
    let mut living = place.folder();
    batch(&mut living, &["living"], "2026-11-25");
    let mut dead = place.folder();
    batch(&mut dead, &["1", "2"], "2026-11-25");
    let path = dead.current.as_ref().unwrap().path.clone();
    let whole = fs::read(&path).unwrap();
    drop(dead);
    // As after a kill: no lock, and half of another batch.
    fs::remove_file(path.with_extension("")).unwrap();
    for tail in [&whole[..whole.len() / 2], &[0; 4096], &[]] {
        fs::write(&path, [&whole, tail].concat()).unwrap();
        living.tend(day("2026-11-25")).unwrap();
        let mut texts = place.texts();
        texts.sort();
        assert_eq!(texts, ["1\n2\n", "living\n"]);
        assert!(!path.exists());
        assert_eq!(fs::read(path.with_extension("")).unwrap(), whole);
    }
    // The living one's is its own still, also for itself.
    assert!(living.current.as_ref().unwrap().path.exists());
    fs::write(&path, b"").unwrap();
    living.tend(day("2026-11-25")).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_folder_that_can_t_be_made_is_named() {
    let place = Place::new();
    fs::write(&place.0, b"a file").unwrap();
    let mut folder = Folder::new(place.0.join("archive"), 1);
    folder.begin(day("2026-11-25")).unwrap();
    let error = folder.write(b"1").unwrap_err().to_string();
    assert!(
        error.contains("retention.archive_dir") && error.contains("warren-archive-"),
        "{error}"
    );
    fs::remove_file(&place.0).unwrap();
    // As soon as it can be, it is.
    batch(&mut folder, &["1"], "2026-11-25");
    drop(folder);
    let archive = Place(place.0.join("archive"));
    assert_eq!(archive.texts(), ["1\n"]);
}
