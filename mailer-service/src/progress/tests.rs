use super::*;
use futures_util::FutureExt;
use shared::task::TaskId;

fn board(buffer: usize, most: usize) -> (Board, Key) {
    let limits = Limits { buffer, most };
    (Board::new(limits), (TaskId::now(), 1))
}

fn texts(chunks: &[Chunk]) -> Vec<(i32, &str, bool)> {
    chunks
        .iter()
        .map(|chunk| (chunk.seq, chunk.text.as_str(), chunk.truncated))
        .collect()
}

/// The one word that is due, much later than the one before.
fn next(board: &Board, now: &mut Instant) -> Word {
    *now += BETWEEN;
    let mut words = board.due(*now);
    assert_eq!(words.len(), 1);
    words.remove(0)
}

#[test]
fn the_latest_word_counts() {
    let (board, key) = board(64, 1000);
    let mut now = Instant::now();
    board.report(key, Some(140.0), Some("a\0b"));
    let first = next(&board, &mut now);
    let said = first.progress.clone().unwrap();
    assert_eq!(said.percent, Some(100.0));
    assert_eq!(said.note.as_deref(), Some("ab"));
    board.put_back(vec![first.clone()]);
    assert_eq!(next(&board, &mut now).progress, Some(said));
    board.report(key, Some(f64::NAN), None);
    board.put_back(vec![first]);
    assert_eq!(next(&board, &mut now).progress.unwrap().percent, None);
    now += BETWEEN;
    assert!(board.due(now).is_empty());
}

#[tokio::test]
async fn an_attempt_is_written_four_times_a_second_at_most() {
    let (board, key) = board(64, 1000);
    let now = Instant::now();
    board.report(key, Some(1.0), None);
    board.emit(key, "a").await;
    let words = board.due(now);
    assert!(words[0].progress.is_some() && words[0].chunk.is_some());
    board.written(&words, &HashSet::from([key]));
    board.emit(key, "b").await;
    let early = BETWEEN.mul_f64(0.99);
    assert!(board.due(now + early).is_empty());
    // Another attempt is not held up.
    board.report((TaskId::now(), 1), Some(1.0), None);
    assert_eq!(board.due(now + BETWEEN / 2).len(), 1);
    assert_eq!(board.due(now + BETWEEN).len(), 1);
}

#[tokio::test]
async fn output_is_gathered_and_numbered() {
    let (board, key) = board(64, 1000);
    let mut now = Instant::now();
    board.emit(key, "a\0").await;
    board.emit(key, "b").await;
    let first = next(&board, &mut now);
    assert_eq!(texts(first.chunk.as_slice()), [(1, "ab", false)]);
    board.emit(key, "c").await;
    // Not known to be written: the same piece again, however much has come since.
    board.put_back(vec![first]);
    let again = next(&board, &mut now);
    assert_eq!(texts(again.chunk.as_slice()), [(1, "ab", false)]);
    board.written(&[again], &HashSet::from([key]));
    let second = next(&board, &mut now);
    assert_eq!(texts(second.chunk.as_slice()), [(2, "c", false)]);
    board.emit(key, "d").await;
    // Whether the second was written nobody knows yet.
    assert_eq!(
        texts(&board.finish(key)),
        [(2, "c", false), (3, "d", false)]
    );
    assert!(board.finish(key).is_empty() && board.due(now + BETWEEN).is_empty());
}

#[tokio::test]
async fn who_is_too_fast_waits() {
    let (board, key) = board(4, 1000);
    let mut now = Instant::now();
    let mut emitting = Box::pin(board.emit(key, "abcäöü"));
    assert!(emitting.as_mut().now_or_never().is_none());
    let mut written = String::new();
    loop {
        let word = next(&board, &mut now);
        let chunk = word.chunk.clone().unwrap();
        assert!(chunk.text.len() <= 4);
        written.push_str(&chunk.text);
        board.written(&[word], &HashSet::from([key]));
        if emitting.as_mut().now_or_never().is_some() {
            break;
        }
    }
    written.extend(board.finish(key).into_iter().map(|chunk| chunk.text));
    assert_eq!(written, "abcäöü");
}

#[tokio::test]
async fn who_waits_goes_on_when_the_attempt_is_somebody_elses() {
    let (board, key) = board(4, 1000);
    board.emit(key, "full").await;
    let mut emitting = Box::pin(board.emit(key, "more"));
    assert!(emitting.as_mut().now_or_never().is_none());
    board.forget([key]);
    emitting.await;
}

#[tokio::test]
async fn output_is_cut_at_its_limit_and_says_so() {
    let (board, key) = board(64, 5);
    let mut now = Instant::now();
    board.emit(key, "abcd").await;
    let first = next(&board, &mut now);
    board.written(std::slice::from_ref(&first), &HashSet::from([key]));
    // Two bytes, and there is room for one.
    board.emit(key, "ä").await;
    board.emit(key, "z").await;
    assert_eq!(texts(first.chunk.as_slice()), [(1, "abcd", false)]);
    assert_eq!(texts(&board.finish(key)), [(2, "", true)]);

    let (board, key) = self::board(64, 5);
    board.emit(key, "abcdefgh").await;
    assert_eq!(texts(&board.finish(key)), [(1, "abcde", true)]);
}
