use super::*;

fn to(address: &str) -> [Recipient; 1] {
    [Recipient::new(address.to_owned())]
}

/// The code that RCPT is refused with.
fn code(verdict: &Verdict) -> Option<u16> {
    match verdict.outcome {
        Some(Outcome::Reply(code, _)) => Some(code),
        _ => None,
    }
}

#[test]
fn words_of_the_local_part() {
    let faults = Faults::default();
    for (address, phase, expected) in [
        ("a+421@x", Phase::Rcpt, Some(421)),
        ("a+450@x", Phase::Rcpt, Some(450)),
        ("a+550@x", Phase::Rcpt, Some(550)),
        ("a+552@x", Phase::Rcpt, Some(552)),
        ("a+tag+552@x", Phase::Rcpt, Some(552)),
        ("a+450@x", Phase::Dot, None),
        ("a+451x0@x", Phase::Rcpt, None),
        ("a+553@x", Phase::Rcpt, None),
        ("a+4500@x", Phase::Rcpt, None),
        ("a+450x@x", Phase::Rcpt, None),
        ("a+450x-1@x", Phase::Rcpt, None),
        ("a+450x99999999999@x", Phase::Rcpt, None),
        ("450@x", Phase::Rcpt, None),
        ("a@x+450", Phase::Rcpt, None),
        ("+", Phase::Rcpt, None),
    ] {
        assert_eq!(
            code(&faults.judge(phase, &to(address))),
            expected,
            "{address} at {phase:?}"
        );
    }
    for (address, phase, expected) in [
        ("a+dropdata@x", Phase::Data, Outcome::Drop),
        ("a+DropDot@x", Phase::Dot, Outcome::Drop),
        ("a+crash@x", Phase::Dot, Outcome::StoreThenDrop),
    ] {
        assert_eq!(
            faults.judge(phase, &to(address)).outcome,
            Some(expected),
            "{address}"
        );
    }
}

#[test]
fn slow_delays_and_can_go_with_another_word() {
    let faults = Faults::default();
    assert_eq!(
        faults.judge(Phase::Rcpt, &to("a+slow@x")).delay,
        Duration::from_secs(1)
    );
    let both = faults.judge(Phase::Rcpt, &to("a+slow20+450@x"));
    assert_eq!(
        (both.delay, code(&both)),
        (Duration::from_millis(20), Some(450))
    );
    assert_eq!(
        faults.judge(Phase::Dot, &to("a+slow4000000000@x")).delay,
        Duration::from_secs(600)
    );
}

#[test]
fn counted_words_give_way() {
    let faults = Faults::default();
    let codes = |address: &str| -> Vec<_> {
        (0..3)
            .map(|_| code(&faults.judge(Phase::Rcpt, &to(address))))
            .collect()
    };
    assert_eq!(codes("a+450x2@x"), [Some(450), Some(450), None]);
    assert_eq!(codes("a+451@x"), [Some(451), None, None]);
    assert_eq!(
        codes("A+451@x"),
        [None, None, None],
        "case does not make it another recipient"
    );
    assert_eq!(codes("b+451@x"), [Some(451), None, None]);
    faults.forget_tries();
    assert_eq!(codes("a+451@x"), [Some(451), None, None]);
}

#[test]
fn rules_come_first_and_count_down() {
    let faults = Faults::default();
    let rules = vec![
        FaultRule::new(
            "*@slow.test",
            Phase::Rcpt,
            Action::delay(Duration::from_millis(5)),
        ),
        FaultRule::new("*@slow.test", Phase::Rcpt, Action::reply(451, "")).times(1),
    ];
    faults.set(rules).unwrap();
    let first = faults.judge(Phase::Rcpt, &to("a+550@slow.test"));
    assert_eq!((first.delay.as_millis(), code(&first)), (5, Some(451)));
    assert_eq!(
        code(&faults.judge(Phase::Rcpt, &to("a+550@slow.test"))),
        Some(550)
    );
    assert_eq!(
        faults.judge(Phase::Rcpt, &to("a@other.test")),
        Verdict::default()
    );
    assert_eq!(faults.rules()[1].times, Some(0));
}

#[test]
fn wrong_rules_are_refused_and_change_nothing() {
    let faults = Faults::default();
    for (rule, problem) in [
        (
            FaultRule::new("", Phase::Rcpt, Action::Drop),
            "match is empty",
        ),
        (
            FaultRule::new("a@x", Phase::Mail, Action::Drop),
            "before phase rcpt",
        ),
        (
            FaultRule::new("*", Phase::Rcpt, Action::reply(250, "")),
            "400 to 599",
        ),
        (
            FaultRule::new("*", Phase::Rcpt, Action::reply(450, "a\r\nb")),
            "control characters",
        ),
        (
            FaultRule::new("*", Phase::Rcpt, Action::delay(Duration::from_secs(601))),
            "above",
        ),
        (
            FaultRule::new("*", Phase::Data, Action::StoreThenDrop),
            "phase dot",
        ),
    ] {
        let error = faults.set(vec![rule]).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    assert!(faults.rules().is_empty());
}
