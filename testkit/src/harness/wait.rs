//! Waiting for a condition instead of for a while.

use std::panic::Location;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(15);

/// Polls until the condition holds.
///
/// # Panics
/// When the time is over, with what was waited for and where.
#[track_caller]
pub fn wait_until(
    most: Duration,
    what: &str,
    condition: impl AsyncFnMut() -> bool,
) -> impl Future<Output = ()> {
    let poll = poll(most, what, condition);
    async move {
        if let Err(late) = poll.await {
            panic!("{late}");
        }
    }
}

/// Polls until there is a value.
///
/// # Panics
/// As [`wait_until`].
#[track_caller]
pub fn wait_for<T>(
    most: Duration,
    what: &str,
    mut find: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let start = Instant::now();
        loop {
            if let Some(found) = find().await {
                return found;
            }
            assert!(
                start.elapsed() < most,
                "after {:?}: no {what} (waiting at {caller})",
                start.elapsed()
            );
            tokio::time::sleep(POLL).await;
        }
    }
}

/// As [`wait_until`], with the failure's text as the error.
#[track_caller]
pub(super) fn poll(
    most: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
) -> impl Future<Output = Result<(), String>> {
    let caller = Location::caller();
    async move {
        let start = Instant::now();
        let mut polls = 0_u32;
        loop {
            polls += 1;
            if condition().await {
                return Ok(());
            }
            if start.elapsed() >= most {
                let elapsed = start.elapsed();
                return Err(format!(
                    "after {elapsed:?} and {polls} looks: not yet {what} (waiting at {caller})"
                ));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_as_soon_as_it_holds() {
        let mut looks = 0;
        wait_until(Duration::from_secs(5), "three looks", async || {
            looks += 1;
            looks == 3
        })
        .await;
        assert_eq!(
            wait_for(Duration::from_secs(1), "seven", async || Some(7)).await,
            7
        );
    }

    #[tokio::test]
    #[should_panic(expected = "not yet the moon made of cheese (waiting at ")]
    async fn says_what_it_waited_for() {
        wait_until(
            Duration::from_millis(30),
            "the moon made of cheese",
            async || false,
        )
        .await;
    }
}
