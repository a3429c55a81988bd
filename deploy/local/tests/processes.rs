//! Child processes end when they are told to, and never outlive the program that started them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal as UnixSignal, kill_process};
use stack::{Launch, Process, Signal};

const PATIENCE: Duration = Duration::from_secs(180);

fn shell(script: &str, folder: &Path) -> Launch {
    Launch {
        name: "a shell".to_owned(),
        program: PathBuf::from("sh"),
        arguments: vec!["-c".into(), script.into()],
        directory: Some(folder.to_owned()),
        log: folder.join("shell.log"),
        ..Launch::default()
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The command lines of the living processes that carry `NAME=value` in their environment; children inherit it.
fn carriers(mark: &str) -> Vec<String> {
    let text = |path: PathBuf| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let process = entry.ok()?.path();
            let environment = text(process.join("environ")).ok()?;
            environment.contains(mark).then(|| text(process.join("cmdline")).unwrap_or_default())
        })
        .collect()
}

#[test]
fn a_process_tells_its_exit_code_and_what_it_used() {
    let folder = tempfile::tempdir().unwrap();
    // 64 MB held at once, and some work.
    let script = "python3 -c 'x = bytearray(64 << 20); sum(range(3000000))'; exit 3";
    let process = Process::start(&shell(script, folder.path())).unwrap();
    let exit = process.wait(PATIENCE).unwrap();
    assert_eq!((exit.code, exit.signal), (Some(3), None));
    assert!(exit.cpu > Duration::from_millis(10), "{exit:?}");
    assert_eq!(process.exit(), Some(exit));
}

#[test]
fn the_peak_memory_is_the_process_s_own_and_not_that_of_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    // Touched, so that it is resident in this program while the child is started.
    let ballast = vec![1_u8; 300 << 20];
    let small = Process::start(&shell("exit 0", folder.path())).unwrap().wait(PATIENCE).unwrap();
    assert_eq!(ballast.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 300 << 20);
    assert!(small.peak_rss_bytes < 100 << 20, "{small:?}");
    let python = Launch {
        program: PathBuf::from("python3"),
        arguments: vec!["-c".into(), "x = b'1' * (200 << 20)".into()],
        ..shell("", folder.path())
    };
    let large = Process::start(&python).unwrap().wait(PATIENCE).unwrap();
    assert!(large.peak_rss_bytes > 200 << 20, "{large:?}");
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch { program: PathBuf::from("/nowhere/worker"), ..shell("", folder.path()) };
    let error = format!("{:#}", Process::start(&launch).unwrap_err());
    assert!(error.contains("/nowhere/worker") && error.contains("No such file"), "{error}");
}

#[test]
fn a_failed_run_shows_the_tail_of_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let error = Process::run(&shell("echo the reason; exit 5", folder.path()), PATIENCE).unwrap_err().to_string();
    assert!(error.contains("exit code 5") && error.contains("the reason"), "{error}");
}

#[test]
fn a_suspended_process_does_nothing_until_it_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    // Not a shell: one that is stopped while it starts a command counts as waiting for that.
    let script = "import time\nwhile True: print('x', flush=True); time.sleep(0.01)";
    let launch = Launch {
        program: PathBuf::from("python3"),
        arguments: vec!["-c".into(), script.into()],
        ..shell("", folder.path())
    };
    let process = Process::start(&launch).unwrap();
    let length = || fs::metadata(process.log()).unwrap().len();
    wait_for("the first output", || length() > 0);
    process.signal(Signal::Suspend).unwrap();
    let stopped = || fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap().contains(") T ");
    wait_for("the stop", stopped);
    let at_stop = length();
    process.signal(Signal::Resume).unwrap();
    wait_for("more output", || length() > at_stop);
    assert_eq!(process.kill().unwrap().signal, Some(9));
}

#[test]
fn a_killed_process_takes_its_children_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mark = format!("RECWATCH_TEST_MARK=children-of-{}", std::process::id());
    let (name, value) = mark.split_once('=').unwrap();
    let launch = Launch {
        environment: vec![(name.to_owned(), value.to_owned())],
        ..shell("sleep 1000 & (sleep 1001 & wait) & wait", folder.path())
    };
    let process = Process::start(&launch).unwrap();
    wait_for("the grandchildren", || carriers(&mark).iter().filter(|line| line.starts_with("sleep")).count() == 2);
    process.kill().unwrap();
    wait_for("their end", || carriers(&mark).is_empty());
}

#[test]
fn a_process_whose_handle_is_dropped_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mark = format!("RECWATCH_TEST_MARK=dropped-by-{}", std::process::id());
    let (name, value) = mark.split_once('=').unwrap();
    let launch =
        Launch { environment: vec![(name.to_owned(), value.to_owned())], ..shell("sleep 1000", folder.path()) };
    let process = Process::start(&launch).unwrap();
    // it carries nothing before it has its own program
    wait_for("the process", || !carriers(&mark).is_empty());
    drop(process);
    wait_for("its end", || carriers(&mark).is_empty());
}

/// `cargo stack up --foreground` in a folder of its own, marked so that all its descendants can be found.
struct Program {
    child: Child,
    mark: String,
    folder: tempfile::TempDir,
}

impl Program {
    fn start(test: &str) -> Program {
        let folder = tempfile::tempdir().unwrap();
        let mark = format!("RECWATCH_TEST_MARK={test}-{}", std::process::id());
        let (name, value) = mark.split_once('=').unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_stack"))
            .args(["up", "--foreground", "--only", "kafka,clickhouse", "--directory"])
            .arg(folder.path().join("stack"))
            .env(name, value)
            .stdout(fs::File::create(folder.path().join("output")).unwrap())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Program { child, mark, folder }
    }

    fn wait_until_up(&mut self) {
        let output = self.folder.path().join("output");
        wait_for("the stack", || fs::read_to_string(&output).unwrap().contains("Ctrl-C stops it"));
        assert!(self.child.try_wait().unwrap().is_none());
    }

    fn signal(&self, signal: UnixSignal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn assert_that_nothing_is_left(mut self) {
        let mut status = None;
        wait_for("the program's end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(!status.unwrap().success());
        let mark = &self.mark;
        let begun = Instant::now();
        while !carriers(mark).is_empty() {
            assert!(begun.elapsed() < PATIENCE, "left behind: {:#?}", carriers(mark));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A test that fails must not leave anything behind either.
impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nothing_is_left_of_a_stack_whose_program_was_killed() {
    let mut program = Program::start("killed");
    program.wait_until_up();
    assert!(carriers(&program.mark).iter().any(|line| line.contains("kafka.Kafka")));
    assert!(carriers(&program.mark).iter().any(|line| line.contains("gateway.py")));
    program.signal(UnixSignal::KILL);
    program.assert_that_nothing_is_left();
}

#[test]
fn nothing_is_left_of_a_stack_that_is_interrupted() {
    let mut program = Program::start("interrupted");
    program.wait_until_up();
    program.signal(UnixSignal::INT);
    program.assert_that_nothing_is_left();
}

#[test]
fn nothing_is_left_of_a_stack_that_is_killed_while_it_starts() {
    let program = Program::start("starting");
    wait_for("the broker's process", || carriers(&program.mark).iter().any(|line| line.contains("kafka.Kafka")));
    program.signal(UnixSignal::KILL);
    program.assert_that_nothing_is_left();
}

#[test]
fn children_die_with_a_supervisor_that_is_killed() {
    let mut program = Program::start("supervisor");
    program.wait_until_up();
    let supervisor = fs::read_dir("/proc").unwrap().find_map(|entry| {
        let entry = entry.ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let is_it = String::from_utf8_lossy(&line).contains("recwatch-supervisor")
            && String::from_utf8_lossy(&environment).contains(&program.mark);
        is_it.then(|| entry.file_name().to_string_lossy().parse::<i32>().unwrap())
    });
    kill_process(Pid::from_raw(supervisor.unwrap()).unwrap(), UnixSignal::KILL).unwrap();
    // The program itself lives on: only what it started is gone.
    wait_for("the children's end", || carriers(&program.mark).iter().all(|line| line.contains(" up ")));
    program.signal(UnixSignal::KILL);
    program.assert_that_nothing_is_left();
}
