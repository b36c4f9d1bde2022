//! The services' logs on the terminal, each line with its service's name before it.
//!
//! They are read back from the files: so the services depend on nobody who reads, and a run that is killed leaves
//! them whole.

use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::stack::Stack;

const POLL: Duration = Duration::from_millis(100);
/// Cyan, green, magenta, blue; red and yellow are for problems.
const COLOURS: [&str; 4] = ["36", "32", "35", "34"];

pub(super) struct Logs {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Logs {
    /// Shows what the api-service and the mailer-services write from now on.
    pub(super) fn follow(stack: &Stack) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let services = std::iter::once(&stack.api).chain(&stack.mailers);
        let mut tails: Vec<Tail> = services
            .enumerate()
            .map(|(at, service)| {
                let name = service.name();
                // With one worker its number says nothing.
                let name = if stack.mailers.len() == 1 {
                    name.trim_end_matches("-1")
                } else {
                    name
                };
                let colour = is_terminal.then(|| COLOURS[at % COLOURS.len()]);
                Tail::at_end(service.log_path(), name, colour)
            })
            .collect();
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            loop {
                let is_last = tokio::time::timeout(POLL, &mut stopped).await.is_ok();
                let lines: String = tails.iter_mut().map(Tail::read).collect();
                // A terminal that is gone takes nothing more, and that ends no service.
                let _ = std::io::stdout().write_all(lines.as_bytes());
                if is_last {
                    return;
                }
            }
        });
        Self { stop, task }
    }

    /// Shows the last lines and ends.
    pub(super) async fn finish(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

struct Tail {
    path: PathBuf,
    name: String,
    colour: Option<&'static str>,
    position: u64,
    /// A line that is not finished yet.
    rest: Vec<u8>,
}

impl Tail {
    fn at_end(path: PathBuf, name: &str, colour: Option<&'static str>) -> Self {
        let position = path.metadata().map_or(0, |found| found.len());
        Self {
            path,
            name: name.to_owned(),
            colour,
            position,
            rest: Vec::new(),
        }
    }

    fn shown(&self, line: &str) -> String {
        let name = &self.name;
        let Some(colour) = self.colour else {
            return format!("{name:>8} | {line}\n");
        };
        // A problem must stand out.
        let line = if line.contains(" ERROR ") {
            format!("\x1b[31m{line}\x1b[0m")
        } else if line.contains(" WARN ") {
            format!("\x1b[33m{line}\x1b[0m")
        } else {
            line.to_owned()
        };
        format!("\x1b[{colour}m{name:>8} │\x1b[0m {line}\n")
    }

    /// The whole lines that came since the last call.
    fn read(&mut self) -> String {
        let mut fresh = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            if file.metadata()?.len() < self.position {
                // A large log was put aside at the service's start.
                self.position = 0;
            }
            file.seek(SeekFrom::Start(self.position))?;
            file.read_to_end(&mut fresh)
        });
        let Ok(length) = read else {
            return String::new();
        };
        self.position += length as u64;
        self.rest.append(&mut fresh);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return String::new();
        };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        let lines: Vec<String> = String::from_utf8_lossy(&whole)
            .lines()
            .map(|line| self.shown(line))
            .collect();
        lines.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_whole_lines_that_came_since() {
        let path = std::env::temp_dir().join(format!("warren-test-tail-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        writeln!(file, "before").unwrap();
        let mut tail = Tail::at_end(path.clone(), "api", None);
        write!(file, "one\ntwo").unwrap();
        assert_eq!(tail.read(), "     api | one\n");
        assert_eq!(tail.read(), "");
        writeln!(file, "!").unwrap();
        assert_eq!(tail.read(), "     api | two!\n");
        tail.colour = Some("36");
        writeln!(file, "12:00:00  WARN the broker is gone").unwrap();
        assert_eq!(
            tail.read(),
            "\x1b[36m     api │\x1b[0m \x1b[33m12:00:00  WARN the broker is gone\x1b[0m\n"
        );
        std::fs::remove_file(path).unwrap();
    }
}
