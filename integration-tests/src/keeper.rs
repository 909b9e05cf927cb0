//! Ends the programs of a test process that was itself killed.

use std::{
    io::Write as _,
    process::{ChildStdin, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

/// Reads which processes began and ended. When the test process is gone, it ends the rest.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
running=' '
while read -r what process; do
    case $what in
    began) running="$running$process " ;;
    ended) running="${running%% $process *} ${running#* $process }" ;;
    esac
done
for process in $running; do kill -KILL "$process"; done
"#;

/// Notes that a process of ours runs.
pub(crate) fn began(process: u32) {
    tell("began", process);
}

/// Notes that it has been waited for: its number may be another's soon.
pub(crate) fn ended(process: u32) {
    tell("ended", process);
}

fn tell(what: &str, process: u32) {
    static KEEPER: OnceLock<Mutex<ChildStdin>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| Mutex::new(start()));
    let mut keeper = keeper.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(keeper, "{what} {process}").expect("the keeper outlives us");
}

#[expect(clippy::zombie_processes, reason = "it outlives us: nobody waits for it")]
fn start() -> ChildStdin {
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut keeper = shell.spawn().expect("there is a shell");
    keeper.stdin.take().expect("its input was asked for")
}
