//! An interrupted run leaves neither peers nor files behind.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use e2e::Process;
use e2e::process::DEADLINE;
use meergate_bench::proc;
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn an_interrupted_run_ends_its_peers_and_removes_its_files() {
    let here = tempfile::tempdir().unwrap();
    let rules = here.path().join("none.rules");
    fs::write(&rules, "").unwrap();
    let (temporary, results) = (here.path().join("tmp"), here.path().join("results.json"));
    fs::create_dir(&temporary).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_meergate-bench"));
    command.env("TMPDIR", &temporary).arg("run").arg("--rules").arg(&rules);
    command.args(["--only", "https 1 KB kept, 8", "--who", "nginx direct", "--seconds", "0.1"]);
    command.args(["--rounds", "100000", "--results"]).arg(results);
    let mut bench = Process::start("meergate-bench", &mut command);
    bench.wait_for_line("nginx direct");
    let peers: Vec<u32> =
        proc::tree(&[bench.pid()]).into_iter().filter(|pid| *pid != bench.pid()).collect();
    assert!(peers.len() > 1, "nginx and its workers: {peers:?}");

    let pid = Pid::from_raw(i32::try_from(bench.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let status = bench.wait_for_end();
    assert!(!status.success(), "{status}");
    assert!(bench.log().contains("interrupted"), "{}", bench.log());
    for peer in peers {
        // One that has ended and that nobody waited for has no program any more.
        let program = format!("/proc/{peer}/exe");
        let end = Instant::now() + DEADLINE;
        while Path::new(&program).read_link().is_ok() {
            assert!(Instant::now() < end, "{peer} is left");
            thread::sleep(Duration::from_millis(10));
        }
    }
    // The ports that tests have claimed are noted in a folder of all of them.
    let entries = fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> =
        entries.filter(|name| !name.to_string_lossy().starts_with("meergate-e2e-ports")).collect();
    assert!(left.is_empty(), "{left:?}");
}
