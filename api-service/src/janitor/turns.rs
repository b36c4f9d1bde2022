//! Who works next.

/// Gives each worker a turn, and again those that have more to do, one after another, as long as `goes_on`, which is asked
/// after each further turn. True: somebody had more to do.
pub(super) fn take<W>(
    workers: &mut [W],
    mut turn: impl FnMut(&mut W) -> bool,
    mut goes_on: impl FnMut() -> bool,
) -> bool {
    let mut busy: Vec<&mut W> = workers.iter_mut().collect();
    busy.retain_mut(|worker| turn(worker));
    while !busy.is_empty() {
        let mut time_is_up = false;
        busy.retain_mut(|worker| {
            time_is_up = time_is_up || !goes_on();
            time_is_up || turn(worker)
        });
        if time_is_up {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each worker: how many turns it still needs, and how many it had.
    fn after(needed: [u32; 3], turns: u32) -> ([u32; 3], bool) {
        let mut workers = needed.map(|needed| (needed, 0));
        let mut left = turns;
        let is_left = take(
            &mut workers,
            |(needed, had)| {
                *had += 1;
                *needed = needed.saturating_sub(1);
                *needed > 0
            },
            || {
                let goes_on = left > 0;
                left = left.saturating_sub(1);
                goes_on
            },
        );
        (workers.map(|(_, had)| had), is_left)
    }

    #[test]
    fn who_never_ends_keeps_nobody_from_a_turn() {
        assert_eq!(after([u32::MAX, 1, 2], 0), ([1, 1, 1], true));
        assert_eq!(after([u32::MAX, 1, 2], 5), ([5, 1, 2], true));
        assert_eq!(after([u32::MAX, 1, u32::MAX], 6), ([4, 1, 4], true));
    }

    #[test]
    fn all_ends_when_nobody_has_more_to_do() {
        assert_eq!(after([1, 1, 1], 9), ([1, 1, 1], false));
        assert_eq!(after([3, 1, 2], 9), ([3, 1, 2], false));
    }
}
