use super::*;

fn store(max_messages: usize, max_bytes: usize, keep_raw: bool) -> Store {
    Store::new(&InboxOptions {
        keep_raw,
        max_messages,
        max_bytes,
        ..InboxOptions::default()
    })
}

fn add(store: &Store, to: &str, body: &[u8]) -> Uuid {
    let client = Client {
        address: ([127, 0, 0, 1], 1).into(),
        helo: String::new(),
        tls: false,
        user: None,
    };
    store.add(Arrival {
        from: String::new(),
        to: vec![to.to_owned()],
        body,
        client: Arc::new(client),
    })
}

#[test]
fn the_oldest_make_room_and_are_counted() {
    let store = store(2, usize::MAX, true);
    for to in ["a@x", "b@x", "c@x"] {
        add(&store, to, b"");
    }
    let kept: Vec<_> = store
        .messages()
        .iter()
        .map(|message| message.envelope_to[0].clone())
        .collect();
    assert_eq!(kept, ["b@x", "c@x"]);
    assert_eq!(
        (store.count(), store.stats().dropped, store.stats().unread),
        (3, 1, 2)
    );
}

#[test]
fn bytes_are_capped_but_the_newest_stays() {
    let store = store(10, 4000, true);
    for to in ["a@x", "b@x", "c@x"] {
        add(&store, to, &[b'x'; 2000]);
    }
    assert_eq!(store.stats().kept, 1);
    add(&store, "d@x", &[b'x'; 9000]);
    assert_eq!(
        (store.stats().kept, store.latest().unwrap().size),
        (1, 9000)
    );
}

#[test]
fn sums_return_to_zero() {
    let store = store(10, usize::MAX, true);
    let first = add(&store, "a@x", b"1");
    let second = add(&store, "b@x", b"2");
    store.mark_read(&store.get(first).unwrap());
    store.delete(&[first]);
    assert_eq!((store.stats().unread, store.count()), (1, 1));
    store.delete(&[second]);
    let stats = store.stats();
    assert_eq!(
        (stats.bytes, stats.unread, stats.kept, stats.deleted),
        (0, 0, 0, 2)
    );
}

#[test]
fn light_mode_keeps_the_task_only() {
    let store = store(10, usize::MAX, false);
    add(&store, "a@x", b"X-Warren-Task: 7\r\n\r\nbody");
    let message = store.latest().unwrap();
    assert_eq!(
        (message.task().as_deref(), message.raw.len(), message.size),
        (Some("7"), 0, 24)
    );
}

#[test]
fn since_goes_on_where_it_stopped() {
    let store = store(2, usize::MAX, true);
    add(&store, "a@x", b"");
    let (mails, next) = store.since(0);
    assert_eq!(mails.len(), 1);
    for to in ["b@x", "c@x", "d@x"] {
        add(&store, to, b"");
    }
    assert_eq!(store.since(next).0.len(), 2);
}
