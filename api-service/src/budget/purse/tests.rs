use super::*;
use crate::budget::limits::daily_terms;
use proptest::prelude::*;

const RATE: Terms = Terms {
    most: 10.0,
    per_s: 2.0,
    ahead: 1.0 / 8.0,
    pause: Duration::from_millis(10),
};

fn is_yes(taken: &Taken) -> bool {
    matches!(taken, Taken::Yes)
}

fn waits(taken: Taken) -> oneshot::Receiver<Result<(), Short>> {
    match taken {
        Taken::Wait(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn tokens(granted: u64, left: f64) -> Lease {
    Lease {
        granted,
        left,
        day: None,
    }
}

/// A record of a day's quota, as the statement keeps it.
struct Day {
    quota: u64,
    used: u64,
    date: NaiveDate,
    lasts: Duration,
}

impl Day {
    fn lease(&mut self, ask: &Ask) -> Lease {
        if ask.day == Some(self.date) {
            self.used -= ask.back;
        }
        let left = self.quota - self.used;
        let granted = if left >= ask.least {
            ask.want.min(left)
        } else {
            0
        };
        self.used += granted;
        #[expect(clippy::cast_precision_loss, reason = "small")]
        Lease {
            granted,
            left: (left - granted) as f64,
            day: Some((self.date, self.lasts)),
        }
    }
}

fn date(day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, day).unwrap()
}

#[test]
fn the_record_is_asked_for_what_is_needed_and_no_more() {
    let (mut purse, now) = (Purse::default(), Instant::now());
    let mut first = waits(purse.take(1, &RATE, now));
    let mut second = waits(purse.take(1, &RATE, now));
    let ask = purse.begin(&RATE, false, now).unwrap();
    assert_eq!((ask.want, ask.least, ask.back), (2, 1, 0));
    purse.finish(&ask, &tokens(2, 8.0), &RATE, now);
    assert!(first.try_recv().unwrap().is_ok() && second.try_recv().unwrap().is_ok());
    assert_eq!(purse.standing(&RATE, now).unwrap().0, 8);
    assert_eq!(purse.begin(&RATE, false, now), None);
}

#[test]
fn what_will_be_needed_is_leased_ahead_and_given_back_when_it_is_not() {
    let (mut purse, now) = (Purse::default(), Instant::now());
    let terms = Terms {
        most: 1000.0,
        ..RATE
    };
    for _ in 0..20 {
        let _answer = waits(purse.take(1, &terms, now));
    }
    // Those who have hung up need nothing.
    assert_eq!(purse.begin(&terms, false, now), None);
    let answers: Vec<_> = (0..20).map(|_| waits(purse.take(1, &terms, now))).collect();
    let ask = purse.begin(&terms, false, now).unwrap();
    purse.finish(&ask, &tokens(20, 980.0), &terms, now);
    drop(answers);
    let ask = purse.begin(&terms, true, now).unwrap();
    assert_eq!((ask.want, ask.back), (20, 0));
    purse.finish(&ask, &tokens(20, 960.0), &terms, now);
    assert!(is_yes(&purse.take(1, &terms, now)));
    let mut given_back = 0;
    for _ in 0..10 {
        given_back += purse.begin(&terms, true, now).map_or(0, |ask| ask.back);
    }
    assert_eq!(given_back, 19);
    assert!(purse.is_quiet());
}

#[test]
fn an_empty_record_is_not_asked_until_it_may_have_something() {
    let (mut purse, now) = (Purse::default(), Instant::now());
    let mut answer = waits(purse.take(1, &RATE, now));
    let ask = purse.begin(&RATE, false, now).unwrap();
    purse.finish(&ask, &tokens(0, 0.5), &RATE, now);
    // Two in a second: half a token takes a quarter of one.
    let short = answer.try_recv().unwrap().unwrap_err();
    assert_eq!(short.wait, Duration::from_millis(250));
    assert!(matches!(purse.take(1, &RATE, now), Taken::No(again) if again == short));
    let later = now + Duration::from_millis(249);
    assert!(matches!(purse.take(1, &RATE, later), Taken::No(_)));
    waits(purse.take(1, &RATE, now + Duration::from_millis(250)));
}

#[test]
fn while_the_record_is_away_requests_pass_and_quotas_wait() {
    let (mut purse, now) = (Purse::default(), Instant::now());
    let mut answer = waits(purse.take(1, &RATE, now));
    let ask = purse.begin(&RATE, false, now).unwrap();
    purse.fail(&ask, &RATE, now);
    assert!(answer.try_recv().unwrap().is_ok());
    assert!(is_yes(&purse.take(1, &RATE, now)));
    waits(purse.take(1, &RATE, now + PASS));

    let terms = daily_terms(5);
    let mut purse = Purse::default();
    let mut look = waits(purse.take(0, &terms, now));
    let mut task = waits(purse.take(1, &terms, now));
    let ask = purse.begin(&terms, false, now).unwrap();
    purse.fail(&ask, &terms, now);
    assert!(look.try_recv().unwrap().is_ok());
    assert!(task.try_recv().is_err());
    assert_eq!(purse.begin(&terms, false, now).unwrap().want, 1);
}

#[test]
fn at_midnight_the_quota_begins_anew() {
    let (mut purse, now) = (Purse::default(), Instant::now());
    let terms = daily_terms(10);
    let mut day = Day {
        quota: 10,
        used: 0,
        date: date(24),
        lasts: Duration::from_secs(3),
    };
    let mut ten = waits(purse.take(10, &terms, now));
    let ask = purse.begin(&terms, false, now).unwrap();
    purse.finish(&ask, &day.lease(&ask), &terms, now);
    assert!(ten.try_recv().unwrap().is_ok());
    let mut one = waits(purse.take(1, &terms, now));
    let ask = purse.begin(&terms, false, now).unwrap();
    purse.finish(&ask, &day.lease(&ask), &terms, now);
    let short = one.try_recv().unwrap().unwrap_err();
    assert_eq!((short.wait, short.left), (Duration::from_secs(3), 0));
    // Two come back, of which the last second takes one.
    purse.put_back(2, Some(date(24)), now);
    assert!(is_yes(&purse.take(1, &terms, now + Duration::from_secs(2))));

    let midnight = now + Duration::from_secs(3);
    day = Day {
        used: 0,
        date: date(25),
        lasts: Duration::from_secs(86_400),
        ..day
    };
    // What is left of the old day is worth nothing.
    let mut eight = waits(purse.take(8, &terms, midnight));
    purse.put_back(1, Some(date(24)), midnight);
    let ask = purse.begin(&terms, false, midnight).unwrap();
    assert_eq!((ask.want, ask.day), (8, None));
    purse.finish(&ask, &day.lease(&ask), &terms, midnight);
    assert!(eight.try_recv().unwrap().is_ok());
    assert_eq!(
        purse.standing(&terms, midnight).unwrap(),
        (2, Duration::from_secs(86_400))
    );
}

#[test]
fn a_large_request_that_does_not_fit_leaves_the_rest_to_small_ones() {
    let (mut purse, now) = (Purse::default(), Instant::now());
    let terms = daily_terms(10);
    let mut day = Day {
        quota: 10,
        used: 4,
        date: date(24),
        lasts: Duration::from_secs(60),
    };
    let mut large = waits(purse.take(9, &terms, now));
    let mut small = waits(purse.take(6, &terms, now));
    let ask = purse.begin(&terms, false, now).unwrap();
    purse.finish(&ask, &day.lease(&ask), &terms, now);
    assert_eq!(large.try_recv().unwrap().unwrap_err().left, 6);
    assert!(small.try_recv().unwrap().is_ok());
    assert_eq!(day.used, 10);
}

proptest! {
    /// Several replicas, requests of several sizes: never more than the quota, and in the end exactly what was accepted.
    #[test]
    fn a_quota_is_never_exceeded(quota in 1_u64..2000, steps in prop::collection::vec((0_usize..3, 1_u64..20, any::<bool>(), any::<bool>()), 1..400)) {
        let terms = daily_terms(quota);
        let now = Instant::now();
        let mut day = Day { quota, used: 0, date: date(24), lasts: Duration::from_secs(3600) };
        let mut purses: [Purse; 3] = Default::default();
        let mut accepted = 0;
        for (replica, n, ticks, gives_back) in steps {
            let purse = &mut purses[replica];
            let got = match purse.take(n, &terms, now) {
                Taken::Yes => true,
                Taken::No(_) => false,
                Taken::Wait(mut answer) => {
                    let ask = purse.begin(&terms, ticks, now).unwrap();
                    purse.finish(&ask, &day.lease(&ask), &terms, now);
                    answer.try_recv().unwrap().is_ok()
                }
            };
            if got && gives_back {
                purse.put_back(n, Some(date(24)), now);
            } else if got {
                accepted += n;
            }
            prop_assert!(accepted <= day.used && day.used <= quota);
        }
        for purse in &mut purses {
            if let Some(ask) = purse.empty(&terms, now) {
                day.lease(&ask);
            }
        }
        prop_assert_eq!(day.used, accepted);
    }
}
