//! `demo.stream`

use super::{Context, Handler, Services};
use crate::task::{Failure, TaskError};
use chrono::{SecondsFormat, Utc};
use shared::kinds::{DemoStream, DemoStreamed};
use std::time::Duration;

impl Handler for DemoStream {
    async fn run(self, context: &Context, _services: &Services) -> Result<DemoStreamed, TaskError> {
        let interval = Duration::from_millis(self.interval_ms.into());
        let mut bytes = 0;
        for number in 1..=self.chunks {
            if number > 1 {
                let pause = tokio::time::sleep(interval);
                let paused = context.cancelled.run_until_cancelled(pause).await;
                paused.ok_or(TaskError::Interrupted)?;
            }
            let line = line(number, self.chunks, self.size);
            bytes += line.len() as u64;
            let emitting = context.emit(&line);
            let emitted = context.cancelled.run_until_cancelled(emitting).await;
            emitted.ok_or(TaskError::Interrupted)?;
            let percent = 100.0 * f64::from(number) / f64::from(self.chunks);
            context.progress(percent, None);
        }
        if u32::try_from(context.attempt).is_ok_and(|attempt| attempt <= self.failures) {
            return Err(TaskError::Retry(Failure::new(
                "unlucky",
                format!("attempt {} was to fail", context.attempt),
            )));
        }
        Ok(DemoStreamed {
            chunks: self.chunks,
            bytes,
        })
    }
}

fn line(number: u32, of: u32, size: u32) -> String {
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
    let mut line = format!("{number} of {of} at {now}");
    let fill = (size as usize).saturating_sub(line.len() + 1);
    line.extend(std::iter::repeat_n('.', fill));
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_filled_up() {
        let line = line(7, 10, 100);
        assert_eq!(line.len(), 100);
        assert!(line.starts_with("7 of 10 at 2") && line.ends_with(".\n"));
        assert!(super::line(7, 10, 0).ends_with("Z\n"));
    }
}
