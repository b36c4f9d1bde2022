//! Mails that are made of a template, with Markdown, layout and styles, and signed: what that costs the door and the worker.

use anyhow::Result;

use super::accept::per_second;
use super::drain::one_run_of_mails;
use super::{Bench, CONNECTIONS};
use crate::load::{Body, Load, Plan};

/// Of the tests; they sign nothing that anybody should believe.
const KEYS: [(&str, &str); 2] = [
    (
        "ED",
        include_str!("../../../mailer-service/tests/keys/ed25519.pem"),
    ),
    (
        "RSA",
        include_str!("../../../mailer-service/tests/keys/rsa.pem"),
    ),
];

/// Acceptances a second, and mails a second: made, and then signed by Ed25519, and by RSA of 2048 bits as well.
pub async fn measure(bench: &mut Bench) -> Result<()> {
    let (mut accepted, mut made, mut signed, mut twice) = (vec![], vec![], vec![], vec![]);
    for _ in 0..bench.runs {
        bench.rig.stop_mailers().await?;
        bench.rig.empty().await?;
        let plan = Plan {
            body: Body::TemplateMail,
            ..bench.accepting(CONNECTIONS)?
        };
        let tally = Load::run(plan).await?;
        bench.report.trouble("accepting templates", &tally, 202);
        accepted.push(per_second(tally.good() as u64, tally.elapsed));
        made.push(one_run_of_mails(bench, Body::TemplateMail).await?.0);
        sign(bench, 1).await?;
        signed.push(one_run_of_mails(bench, Body::TemplateMail).await?.0);
        sign(bench, 2).await?;
        twice.push(one_run_of_mails(bench, Body::TemplateMail).await?.0);
        sign(bench, 0).await?;
    }
    let report = &mut bench.report;
    report.several(
        "accept of mails made of a template, 64 connections, req/s".to_owned(),
        &accepted,
    );
    report.several("drain of such mails, mails/s".to_owned(), &made);
    report.several("– signed by Ed25519, mails/s".to_owned(), &signed);
    report.several("– and by RSA of 2048 bits, mails/s".to_owned(), &twice);
    bench.rig.stop_mailers().await?;
    bench.rig.empty().await
}

/// Has mails signed by the first so many keys, from the worker's next start on.
async fn sign(bench: &mut Bench, keys: usize) -> Result<()> {
    bench.rig.stop_mailers().await?;
    let mailer = bench.rig.mailer()?;
    for (at, (name, pem)) in KEYS.into_iter().enumerate() {
        let settings = [("DOMAIN", "example.com"), ("SELECTOR", name), ("KEY", pem)];
        for (field, value) in settings {
            let key = format!("WARREN__MAIL__DKIM__{name}__{field}");
            mailer.unset_env(&key);
            if at < keys {
                mailer.set_env(&key, value);
            }
        }
    }
    Ok(())
}
