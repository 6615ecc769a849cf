//! What is taken for a whole file.

use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use whole_file::{Cut, read};

#[test]
fn a_file_is_taken_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    for text in ["", "\n", "a\nb\n"] {
        fs::write(&path, text).unwrap();
        assert_eq!(read(&path, None).unwrap(), text.as_bytes());
        assert_eq!(read(&path, Some(text.as_bytes())).unwrap(), text.as_bytes());
    }
    // Times to come, of a clock that was wrong, are no reason to wait forever.
    let later = SystemTime::now() + Duration::from_secs(86_400);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_times(FileTimes::new().set_modified(later))
        .unwrap();
    assert_eq!(read(&path, Some(b"a\n")).unwrap(), b"a\nb\n");
    assert!(matches!(read(&dir.path().join("none"), None), Err(Cut::Unreadable(_))));
}

#[test]
fn no_cut_of_a_file_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let whole = b"[[rule]]\naction = \"bypass\"\nhost = [\"a.example\"]\n";
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_times(FileTimes::new().set_modified(long_ago)).unwrap();
        match (read(&path, Some(whole)), whole[..end].last()) {
            (Err(Cut::Beginning), None | Some(b'\n')) | (Err(Cut::Unended), Some(_)) => {}
            (other, _) => panic!("{end}: {other:?}"),
        }
        if end == 0 || whole[end - 1] == b'\n' {
            // A program that ends what it writes with a blank line does so here, too.
            fs::write(&path, [&whole[..end], b"\n"].concat()).unwrap();
            assert!(matches!(read(&path, Some(whole)), Err(Cut::Beginning)), "{end}");
        }
    }
    // Another line at the end says that it is meant.
    fs::write(&path, "[[rule]]\n# the end\n").unwrap();
    read(&path, Some(whole)).unwrap();
}

#[test]
fn a_file_that_is_being_written_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    loop {
        fs::write(&path, "0\n").unwrap();
        let (begun, begins) = mpsc::sync_channel(20);
        let writer = thread::spawn({
            let path = path.clone();
            move || {
                let mut file = File::options().append(true).open(path).unwrap();
                let mut longest = Duration::ZERO;
                let mut last = Instant::now();
                for line in 1..20 {
                    writeln!(file, "{line}").unwrap();
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                    let _ = begun.send(());
                    thread::sleep(Duration::from_millis(20));
                }
                longest
            }
        });
        begins.recv().unwrap();
        let read = read(&path, None).unwrap();
        // A busy machine's pause may be as long as the rest of a file that is finished.
        if writer.join().unwrap() < Duration::from_millis(300) {
            assert_eq!(read, fs::read(&path).unwrap());
            return;
        }
    }
}
