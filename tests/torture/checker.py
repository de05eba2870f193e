"""Judges a history by the tables that are left: the invariants I1 to I7.

    judge(requests, tables, leases_lost_max=0) -> Verdict

I1  an acknowledged batch is whole, in the tables and in every read that began after it was acknowledged
I2  no read and no table shows a part of a batch
I3  a batch of unknown end is there whole or not at all; one that was refused is not there
I4  of each token: served <= charged <= limit
I5  a retry under the same Idempotency-Key changes nothing: one job, one write, one charge
I6  nobody got anything without a grant
I7  audit rows = acknowledged changes, and at most one for each of unknown end

Pure: it knows no HTTP and no database.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.torture.history import Request

# Answers that say "later" or "no room", as a valid request may get them. Other 4xx, and 500, are our mistake.
LATER = {402, 409, 429, 503, 507}
# What is tried without a right, and with a token that may still be disabled.
MAY_BE_REFUSED = {"trespass", "warm"}
CLOCKS_APART_SECONDS = 0.005
EXAMPLES_MAX = 20


@dataclass(frozen=True)
class StoredBatch:
    """What the table of records holds of a batch: rows, how many differ, and when they were written."""

    rows: int
    distinct: int
    transactions: int = 1
    written_at: float = 0.0  # of the last row, seconds since 1970 by the database's clock


@dataclass(frozen=True)
class Account:
    """What a limited token was charged and its limit, in credits."""

    charged: int
    limit: int
    lease_max: int


@dataclass
class Tables:
    """What was left in the database. `jobs`: how many jobs stored a batch, by its Idempotency-Key."""

    batches: dict[str, StoredBatch] = field(default_factory=dict)
    jobs: dict[str, int] = field(default_factory=dict)  # one that no key leads to: by its own id
    accounts: dict[str, Account] = field(default_factory=dict)
    nicknames: list[str] = field(default_factory=list)  # of the audit rows of edits, one each

    def since(self, before: "Tables") -> "Tables":
        """What came in addition to what was there before, where several histories share a database."""
        return Tables(
            batches={name: one for name, one in self.batches.items() if name not in before.batches},
            jobs={name: count for name, count in self.jobs.items() if name not in before.jobs},
            accounts={
                name: Account(one.charged - spent, one.limit - spent, one.lease_max)
                for name, one in self.accounts.items()
                for spent in [before.accounts[name].charged if name in before.accounts else 0]
            },
            nicknames=list((Counter(self.nicknames) - Counter(before.nicknames)).elements()),
        )


@dataclass
class Verdict:
    """Counts, and one sentence for each violation, by its invariant."""

    acknowledged: int = 0
    unknown: int = 0
    refused: int = 0
    served: int = 0
    charged: int = 0
    lost: int = 0
    partial: int = 0
    doubled: int = 0
    overspent: int = 0
    passed: int = 0
    audit_missing: int = 0
    violations: list[str] = field(default_factory=list)
    misrefused: Counter[str] = field(default_factory=Counter)  # valid requests that got another 4xx, or 500

    def note(self, invariant: str, count: str, sentence: str) -> None:
        setattr(self, count, getattr(self, count) + 1)
        if len(self.violations) < EXAMPLES_MAX:
            self.violations.append(f"{invariant}: {sentence}")

    @property
    def holds(self) -> bool:
        wrong = (self.lost, self.partial, self.doubled, self.overspent, self.passed, self.audit_missing)
        return not any(wrong)


def judge(requests: Sequence[Request], tables: Tables, *, leases_lost_max: int = 0) -> Verdict:
    """`leases_lost_max`: of each token a fault may have left so many leases charged that nobody can spend."""
    verdict = Verdict()
    for request in requests:
        verdict.refused += request.end == "fail"
        status = request.told.get("status", 0)
        is_ours = request.act not in MAY_BE_REFUSED and 400 <= status < 500 and status not in LATER
        if is_ours or status == 500:
            code = request.told.get("code", "")
            verdict.misrefused[f"{request.act}: {status} {code}"] += 1
    batches = by(requests, "write", "batch")
    judge_batches(batches, tables, verdict)
    judge_reads(by(requests, "read", "batch"), batches, verdict)
    judge_replays(batches, by(requests, "replay", "batch"), tables, verdict)
    judge_credits(by(requests, "spend", "account"), tables, leases_lost_max, verdict)
    for request in requests:
        if request.act == "trespass" and request.end == "ok":
            verdict.note("I6", "passed", f"{request.who} got {request.asked}")
    judge_audit(by(requests, "edit", "nickname"), tables, verdict)
    return verdict


def by(requests: Iterable[Request], act: str, name: str) -> dict[str, list[Request]]:
    """The requests of one kind, by what they asked for."""
    found: dict[str, list[Request]] = defaultdict(list)
    for request in requests:
        if request.act == act:
            found[request.asked[name]].append(request)
    return found


def end_of(tries: Sequence[Request]) -> str:
    """What is known of a change that was tried several times: any `ok` counts, then any `unknown`."""
    ends = {one.end for one in tries}
    return "ok" if "ok" in ends else "unknown" if "unknown" in ends else "fail"


def judge_batches(batches: dict[str, list[Request]], tables: Tables, verdict: Verdict) -> None:
    for batch, tries in batches.items():
        size, end = tries[0].asked["size"], end_of(tries)
        stored = tables.batches.get(batch, StoredBatch(0, 0))
        verdict.acknowledged += end == "ok"
        verdict.unknown += end == "unknown"
        if stored.rows and (stored.distinct != size or stored.transactions > 1):
            sentence = f"{batch} has {stored.distinct} of {size}, of {stored.transactions} transactions"
            verdict.note("I2", "partial", sentence)
        if stored.rows != stored.distinct:
            verdict.note("I5", "doubled", f"{batch} has {stored.rows} rows of {stored.distinct} records")
        if end == "ok" and stored.distinct < size:
            verdict.note("I1", "lost", f"{batch} was acknowledged and has {stored.distinct} of {size}")
        if end == "fail" and stored.rows:
            verdict.note("I3", "partial", f"{batch} was refused and has {stored.rows} rows")
    for batch in tables.batches.keys() - batches.keys():
        verdict.note("I3", "partial", f"{batch} was never sent")


def judge_reads(reads: dict[str, list[Request]], batches: dict[str, list[Request]], verdict: Verdict) -> None:
    for batch, asked in reads.items():
        tries = batches[batch]
        acknowledged_at = min((one.ended_at for one in tries if one.end == "ok"), default=float("inf"))
        for read in asked:
            if read.end != "ok":
                continue
            found, whole = read.told["found"], min(tries[0].asked["size"], read.asked["limit"])
            if 0 < found < whole:
                verdict.note("I2", "partial", f"{batch} was read with {found} of {whole}")
            if found < whole and read.invoked_at > acknowledged_at:
                verdict.note("I1", "lost", f"{batch} was acknowledged and then read with {found} of {whole}")


def judge_replays(
    batches: dict[str, list[Request]], replays: dict[str, list[Request]], tables: Tables, verdict: Verdict
) -> None:
    for batch, count in tables.jobs.items():
        tries = batches.get(batch, [])
        # Without a key each try is a request of its own.
        allowed = 1 if tries and tries[0].asked["key"] else len(tries)
        if count > allowed:
            verdict.note("I5", "doubled", f"{batch} was stored by {count} jobs")
    for batch, sent in replays.items():
        stored = tables.batches.get(batch)
        if stored and any(stored.written_at > one.asked["wall"] + CLOCKS_APART_SECONDS for one in sent):
            verdict.note("I5", "doubled", f"{batch} was written again by a retry with its key")


def judge_credits(
    spends: dict[str, list[Request]], tables: Tables, leases_lost_max: int, verdict: Verdict
) -> None:
    for name, account in tables.accounts.items():
        asked = spends.get(name, [])
        served = sum(one.told["served"] for one in asked if one.end == "ok")
        unknown = sum(one.asked["cost"] for one in asked if one.end == "unknown")
        verdict.served += served
        verdict.charged += account.charged
        if max(served, account.charged) > account.limit:
            sentence = f"{name}: {served} served, {account.charged} charged, limit {account.limit}"
            verdict.note("I4", "overspent", sentence)
        if served > account.charged:
            verdict.note("I4", "overspent", f"{name}: {served} served, {account.charged} charged")
        if account.charged > served + unknown + leases_lost_max * account.lease_max:
            sentence = f"{name}: {account.charged} charged for {served} served and {unknown} of unknown end"
            verdict.note("I5", "doubled", sentence)


def judge_audit(edits: dict[str, list[Request]], tables: Tables, verdict: Verdict) -> None:
    rows = Counter(tables.nicknames)
    for nickname, tries in edits.items():
        end, count = end_of(tries), rows[nickname]
        if end == "ok" and not count:
            verdict.note("I7", "audit_missing", f"the change to {nickname} has no audit row")
        if count > 1 or (count and end == "fail"):
            verdict.note("I7", "doubled", f"the change to {nickname} ({end}) has {count} audit rows")
    for nickname in rows.keys() - edits.keys():
        verdict.note("I7", "doubled", f"the audit row of {nickname} belongs to no change")
