//! The gate before the claim: what is over a limit, or of a paused kind, goes into the line of that limit in PostgreSQL,
//! without an attempt and without a slot, and its message is done with. The limit's bucket is locked for a claim's
//! length, so all workers together keep to it. Where no limit and no pause is in force there is no gate, just the claim.

use crate::queries::{
    buckets::{self, BucketRow, Store},
    claim::{self, Claim, Claims},
    gate::{self, Candidate, Candidates, Hold, Key, Line, PutOff},
};
use chrono::{DateTime, Utc};
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
    candidates: &'a HashMap<Key, Candidate>,
    under: HashMap<Key, Vec<(BucketName, Allowance)>>,
    names: HashSet<BucketName>,
}

/// The state under which is decided; its buckets are locked.
struct State {
    buckets: HashMap<BucketName, Filled>,
    /// Lines in which somebody waits.
    occupied: HashSet<Line>,
    /// Tasks that were called up, and from where.
    called_up: HashMap<Uuid, BucketName>,
}

/// A bucket as it was at a moment.
pub struct Filled {
    pub bucket: Bucket,
    at: DateTime<Utc>,
}

/// What was decided, before anything is written.
#[derive(Default)]
struct Decided {
    admitted: Vec<Key>,
    put_off: PutOff,
}

impl<'a> Limited<'a> {
    fn of(candidates: &'a HashMap<Key, Candidate>, policy: &Policy) -> Self {
        let mut under = HashMap::new();
        let mut names = HashSet::new();
        let limited = candidates.iter().filter(|(_, candidate)| !candidate.passes);
        for (key, candidate) in limited {
            let limits = policy.of(
                &candidate.queue,
                &candidate.kind,
                candidate.limit_key.as_deref(),
            );
            names.extend(limits.iter().map(|(bucket, _)| bucket.clone()));
            under.insert(*key, limits);
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
        let mut state = self.load(connection, policy)?;
        let decided = self.decide(asked, &mut state);
        let (id, attempt) = decided.admitted.iter().copied().unzip();
        let admitted = Claim::new(asked.worker, id, attempt);
        let mut claims = claim::run(connection, &admitted)?;
        self.note_claimed(connection, &decided, &mut claims, &mut state)?;
        let put_off = decided.put_off.run(connection)?;
        let mut store = Store::default();
        for (name, Filled { bucket, at }) in &state.buckets {
            if bucket.allowance.rate.is_some() {
                store.push(name, bucket.tokens, *at);
            }
        }
        store.run(connection)?;
        Ok(Passed { claims, put_off })
    }

    fn load(&self, connection: &mut PgConnection, policy: &Policy) -> QueryResult<State> {
        let buckets = load(connection, policy, &self.names)?;
        let lines: HashSet<Line> = self
            .under
            .iter()
            .flat_map(|(key, limits)| limits.iter().map(move |limit| (key, limit)))
            .map(|(key, (name, _))| (name.clone(), self.candidates[key].queue.clone()))
            .collect();
        let ids = self.under.keys().map(|(id, _)| *id).collect();
        Ok(State {
            buckets,
            occupied: gate::occupied(connection, lines.iter())?,
            called_up: gate::called_up(connection, ids)?,
        })
    }

    /// Who was called up goes first; the others keep their order.
    fn decide(&self, asked: &Claim, state: &mut State) -> Decided {
        let mut decided = Decided::default();
        let all = || asked.id.iter().copied().zip(asked.attempt.iter().copied());
        for round in [true, false] {
            for key in all() {
                let Some(candidate) = self.candidates.get(&key) else {
                    continue;
                };
                if state.called_up.contains_key(&key.0) != round {
                    continue;
                }
                let limits = self.under.get(&key).map_or(&[][..], Vec::as_slice);
                if let Some(name) = state.refuses(key.0, candidate, limits) {
                    decided.put_off.push(key.0, key.1, &name);
                    state.occupied.insert((name, candidate.queue.clone()));
                    continue;
                }
                state.take(key.0, limits);
                decided.admitted.push(key);
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
        state: &mut State,
    ) -> QueryResult<()> {
        let claimed: HashSet<Key> = claims
            .claimed
            .iter()
            .map(|task| (task.id.0, task.attempt))
            .collect();
        let mut holds = Hold::default();
        for key in &decided.admitted {
            for (name, allowance) in self.under.get(key).into_iter().flatten() {
                if !claimed.contains(key) {
                    if let Some(filled) = state.buckets.get_mut(name) {
                        filled.bucket.give_back();
                    }
                } else if allowance.concurrency.is_some() {
                    holds.push(name, key.0, key.1);
                }
            }
        }
        for task in &mut claims.claimed {
            let limits = self.under.get(&(task.id.0, task.attempt));
            task.limited = limits.is_some_and(|limits| !limits.is_empty());
        }
        holds.run(connection)?;
        let gone = decided.admitted.iter().map(|(id, _)| *id).collect();
        gate::leave(connection, gone)?;
        Ok(())
    }
}

impl State {
    /// The bucket that has no room for the task, if there is one.
    fn refuses(
        &self,
        id: Uuid,
        candidate: &Candidate,
        limits: &[(BucketName, Allowance)],
    ) -> Option<BucketName> {
        let called_up = self.called_up.contains_key(&id);
        let refused = limits.iter().find(|(name, _)| {
            let has_line = self
                .occupied
                .contains(&(name.clone(), candidate.queue.clone()));
            let filled = self.buckets.get(name);
            filled.is_some_and(|filled| !filled.bucket.admits(called_up, has_line))
        });
        refused.map(|(name, _)| name.clone())
    }

    fn take(&mut self, id: Uuid, limits: &[(BucketName, Allowance)]) {
        for (name, _) in limits {
            let from_here = self.called_up.get(&id) == Some(name);
            if let Some(filled) = self.buckets.get_mut(name) {
                filled.bucket.take(from_here);
            }
        }
    }
}

/// Locks the buckets and finds out how much is left in each.
pub fn load<'n>(
    connection: &mut PgConnection,
    policy: &Policy,
    names: impl IntoIterator<Item = &'n BucketName>,
) -> QueryResult<HashMap<BucketName, Filled>> {
    let rows = buckets::lock(connection, names.into_iter())?;
    let allowance = |name: &BucketName| policy.allowance(name).unwrap_or_default();
    let counted = rows
        .keys()
        .filter(|name| allowance(name).concurrency.is_some());
    let running = buckets::running(connection, counted)?;
    let woken = buckets::woken(connection, rows.keys())?;
    let filled = |(name, row): (BucketName, BucketRow)| {
        let mut bucket = Bucket::filled(allowance(&name), row.tokens, row.age_s);
        bucket.running = running.get(&name).copied().unwrap_or_default();
        bucket.woken = woken.get(&name).copied().unwrap_or_default();
        (name, Filled { bucket, at: row.at })
    };
    Ok(rows.into_iter().map(filled).collect())
}
