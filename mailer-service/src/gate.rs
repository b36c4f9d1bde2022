//! The gate before the claim: what is over a limit, or of a paused kind, goes into the line of that limit in PostgreSQL,
//! without an attempt and without a slot, and its message is done with. The limit's bucket is locked for a claim's
//! length, so all workers together keep to it. Where no limit and no pause is in force there is no gate, just the claim.

use crate::queries::{
    claim::{self, Claim, Claims},
    gate::{self, Candidate, Candidates, Hold, PutOff, Store},
};
use diesel::{Connection, PgConnection, QueryResult};
use shared::limits::{Allowance, Bucket, BucketName, Policy};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Passed {
    pub claims: Claims,
    /// Tasks that wait in a line now.
    pub put_off: usize,
}

/// Claims what the policy lets pass.
pub fn claim(connection: &mut PgConnection, asked: &Claim, policy: &Policy) -> QueryResult<Passed> {
    if policy.is_open() {
        return free(connection, asked);
    }
    let candidates = Candidates {
        id: asked.id.clone(),
        attempt: asked.attempt.clone(),
        worker: asked.worker,
    }
    .run(connection)?;
    let limited = Limited::of(&candidates, policy);
    if limited.names.is_empty() {
        return free(connection, asked);
    }
    connection.transaction(|connection| limited.claim(connection, asked, policy))
}

fn free(connection: &mut PgConnection, asked: &Claim) -> QueryResult<Passed> {
    Ok(Passed {
        claims: claim::run(connection, asked)?,
        put_off: 0,
    })
}

/// Candidates and every bucket that they have to do with.
struct Limited<'a> {
    candidates: &'a HashMap<Uuid, Candidate>,
    under: HashMap<Uuid, Vec<(BucketName, Allowance)>>,
    names: HashSet<BucketName>,
}

/// What was decided, before anything is written.
#[derive(Default)]
struct Decided {
    admitted: Vec<(Uuid, i32)>,
    put_off: PutOff,
}

impl<'a> Limited<'a> {
    fn of(candidates: &'a HashMap<Uuid, Candidate>, policy: &Policy) -> Self {
        let mut under = HashMap::new();
        let mut names = HashSet::new();
        for candidate in candidates.values().filter(|candidate| !candidate.passes) {
            let limits = policy.of(
                &candidate.queue,
                &candidate.kind,
                candidate.limit_key.as_deref(),
            );
            names.extend(limits.iter().map(|(bucket, _)| bucket.clone()));
            names.extend(candidate.wait.iter().map(|wait| wait.bucket.clone()));
            under.insert(candidate.id, limits);
        }
        Self {
            candidates,
            under,
            names,
        }
    }

    fn claim(
        &self,
        connection: &mut PgConnection,
        asked: &Claim,
        policy: &Policy,
    ) -> QueryResult<Passed> {
        let mut buckets = load(connection, policy, &self.names)?;
        let decided = self.decide(asked, &mut buckets);
        let (id, attempt) = decided.admitted.iter().copied().unzip();
        let admitted = Claim::new(asked.worker, id, attempt);
        let mut claims = claim::run(connection, &admitted)?;
        self.note_claimed(connection, &decided, &mut claims, &mut buckets)?;
        let put_off = decided.put_off.run(connection)?;
        for (id, line) in &put_off {
            self.leave_line(*id, &mut buckets);
            if let Some(bucket) = buckets.get_mut(line) {
                bucket.waiting += 1;
            }
        }
        let mut store = Store::default();
        for (name, bucket) in &buckets {
            let tokens = bucket.allowance.rate.map(|_| bucket.tokens);
            store.push(name, tokens, bucket.waiting);
        }
        store.run(connection)?;
        Ok(Passed {
            claims,
            put_off: put_off.len(),
        })
    }

    /// Who was called up goes first; the others keep their order.
    fn decide(&self, asked: &Claim, buckets: &mut HashMap<BucketName, Bucket>) -> Decided {
        let mut decided = Decided::default();
        let all = || asked.id.iter().copied().zip(asked.attempt.iter().copied());
        for round in [true, false] {
            for (id, attempt) in all() {
                let Some(candidate) = self.candidates.get(&id) else {
                    continue;
                };
                let woken = candidate.wait.as_ref().is_some_and(|wait| wait.woken);
                if woken != round {
                    continue;
                }
                let limits = self.under.get(&id).map_or(&[][..], Vec::as_slice);
                let refused_by = limits.iter().find(|(name, _)| {
                    let bucket = buckets.get(name);
                    bucket.is_some_and(|bucket| !bucket.admits(woken))
                });
                if let Some((name, _)) = refused_by {
                    decided.put_off.push(id, attempt, name);
                    continue;
                }
                for (name, _) in limits {
                    if let Some(bucket) = buckets.get_mut(name) {
                        bucket.take(woken && is_line_of(candidate, name));
                    }
                }
                decided.admitted.push((id, attempt));
            }
        }
        decided
    }

    /// Holds for what was claimed; what was not, since somebody else had it, gives back what it took.
    fn note_claimed(
        &self,
        connection: &mut PgConnection,
        decided: &Decided,
        claims: &mut Claims,
        buckets: &mut HashMap<BucketName, Bucket>,
    ) -> QueryResult<()> {
        let claimed: HashSet<Uuid> = claims.claimed.iter().map(|task| task.id.0).collect();
        let mut holds = Hold::default();
        for (id, attempt) in &decided.admitted {
            for (name, allowance) in self.under.get(id).into_iter().flatten() {
                if !claimed.contains(id) {
                    if let Some(bucket) = buckets.get_mut(name) {
                        bucket.give_back();
                    }
                } else if allowance.concurrency.is_some() {
                    holds.push(name, *id, *attempt);
                }
            }
        }
        for task in &mut claims.claimed {
            let limits = self.under.get(&task.id.0).into_iter().flatten();
            task.limited = limits
                .into_iter()
                .any(|(_, allowance)| allowance.concurrency.is_some());
        }
        holds.run(connection)?;
        let gone: Vec<Uuid> = decided
            .admitted
            .iter()
            .map(|(id, _)| *id)
            .filter(|id| self.candidates[id].wait.is_some())
            .collect();
        for id in &gone {
            self.leave_line(*id, buckets);
        }
        gate::leave(connection, gone)?;
        Ok(())
    }

    /// The count of the line in which the task stood, if it had not been called up.
    fn leave_line(&self, id: Uuid, buckets: &mut HashMap<BucketName, Bucket>) {
        let wait = self.candidates[&id].wait.as_ref();
        let Some(wait) = wait.filter(|wait| !wait.woken) else {
            return;
        };
        if let Some(bucket) = buckets.get_mut(&wait.bucket) {
            bucket.waiting -= 1;
        }
    }
}

fn is_line_of(candidate: &Candidate, name: &BucketName) -> bool {
    let wait = candidate.wait.as_ref();
    wait.is_some_and(|wait| wait.bucket == *name)
}

/// Locks the buckets and finds out how much is left in each.
pub fn load<'n>(
    connection: &mut PgConnection,
    policy: &Policy,
    names: impl IntoIterator<Item = &'n BucketName>,
) -> QueryResult<HashMap<BucketName, Bucket>> {
    let rows = gate::lock(connection, names.into_iter())?;
    let allowance = |name: &BucketName| policy.allowance(name).unwrap_or_default();
    let counted = rows
        .keys()
        .filter(|name| allowance(name).concurrency.is_some());
    let running = gate::running(connection, counted)?;
    let woken = gate::woken(connection, rows.keys())?;
    let bucket = |(name, (tokens, age_s, waiting)): (BucketName, gate::BucketRow)| {
        let mut bucket = Bucket::filled(allowance(&name), tokens, age_s);
        bucket.running = running.get(&name).copied().unwrap_or_default();
        bucket.woken = woken.get(&name).copied().unwrap_or_default();
        bucket.waiting = waiting;
        (name, bucket)
    };
    Ok(rows.into_iter().map(bucket).collect())
}
