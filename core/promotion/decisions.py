"""Decisions about the champion outside of a training: rollback, manual promotion, approval; and the alias checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from pydantic import PrivateAttr

from prefect_mlops.core.errors import ConfigError, ConflictError
from prefect_mlops.core.promotion.guards import held_lock
from prefect_mlops.core.promotion.history import (
    AUTOMATIC,
    DECISIONS,
    PERSON,
    PROMOTING,
    Entry,
    carried_out,
    champion_entry,
    decide,
    record,
)
from prefect_mlops.core.settings import Settings
from prefect_mlops.core.text import moment
from prefect_mlops.core.values import Value


class Approval(Value):
    """A person's approval or refusal of a version, made by `sign`, which checks that they may.

    Only what `sign` returned is accepted by `on`, and so by every promotion and refusal: one that was made without it,
    or read back from JSON, is data to show.

    Attributes:
        by: name of the person; the one Prefect authenticated where it has accounts, else the one they typed.
        comment: their comment.
        request: number of the entry that requested approval; 0 without a request.
        typed: the name they typed.
        without_rehearsal: promote without a smoke test.
    """

    by: str
    comment: str = ""
    request: int = 0
    typed: str = ""
    without_rehearsal: bool = False
    _signed_for: str | None = PrivateAttr(default=None)  # the registered model

    def on(self, entry: Entry) -> Entry:
        """Return the entry, signed with this approval.

        Raises:
            ConfigError: the approval was not made by `sign`, or for another model.
        """
        if self._signed_for != entry.model:
            raise ConfigError(
                f"{entry.model}: whether {self.by!r} may decide on v{entry.version} was not checked: take the approval "
                "from sign_approval"
            )
        details = {**entry.details, "approval": self.model_dump()}
        return entry.model_copy(update={"by": self.by, "details": details})


def sign(
    model_name: str,
    *,
    by: str,
    approvers: Collection[str],
    comment: str = "",
    request: Entry | None = None,
    typed: str | None = None,
    without_rehearsal: bool = False,
    flow_run: str = "",
) -> Approval:
    """Decide whether a person may promote a model, or answer a request for its approval; sign in their name.

    The only place where this is decided. The groups of `approvers` are those of `Settings.groups`.

    Args:
        model_name: registered model.
        by: name of the person.
        approvers: names, and groups as ``@group``, from the model's spec; empty allows every name.
        comment: why.
        request: entry that requested approval, where the person answers one; an attempt of a person who may not is
            recorded in the history.
        typed: the name they typed, where Prefect authenticated another; None for `by`.
        without_rehearsal: promote without a smoke test.
        flow_run: id of the calling flow run.

    Returns:
        The approval, for a promotion or a refusal of this model.

    Raises:
        ConfigError: there is no name, or the person is not among the approvers, who are named.
        BackendError: storage failed.
    """
    if not by:
        raise ConfigError(f"{model_name}: {'an answer' if request else 'a promotion'} needs the name of who gives it")
    if not may_approve(by, approvers, Settings().groups):
        act = "promote it"
        if request is not None:
            deny(request, by, flow_run=flow_run)
            act = f"answer for v{request.version}"
        may = ", ".join(approvers) or "anybody with a name"
        raise ConfigError(f"{model_name}: {by!r} may not {act}; who may: {may}")
    signed = Approval(
        by=by,
        comment=comment,
        request=request.sequence if request else 0,
        typed=by if typed is None else typed,
        without_rehearsal=without_rehearsal,
    )
    signed._signed_for = model_name  # noqa: SLF001 - this function is what the mark stands for
    return signed


class AliasRepair(Value):
    """An alias of MLflow that did not follow the history, and what was done about it.

    Attributes:
        model_name: registered model.
        champion: version the history names; None where it names none.
        points_at: version the alias pointed at; None where there was no alias.
        wrong: the difference, one sentence.
        repaired: True when the alias points at the champion now.
        by_hand: True when the alias had been changed outside of this library.
    """

    model_name: str
    champion: int | None = None
    points_at: int | None = None
    wrong: str
    repaired: bool = False
    by_hand: bool = False

    @property
    def sentence(self) -> str:
        """What was wrong, and what was done or is to be done."""
        if self.champion is None:
            return self.wrong
        if not self.repaired:
            return (
                f"{self.wrong} It cannot be set: the registry has v{self.champion} no more. Roll back, or promote "
                "another."
            )
        if not self.by_hand:
            return f"Repaired: {self.wrong} It points at v{self.champion} now."
        keep = (
            f"prefect-mlops promote {self.model_name} {self.points_at} --why TEXT" if self.points_at else "a rollback"
        )
        return f"Repaired: {self.wrong} It points at v{self.champion} again; a champion is changed by {keep}."


class ModelSweep(Value):
    """What a sweep did about one model.

    Attributes:
        model_name: registered model.
        expired: refusal of a request for approval that expired; None where none had.
        repair: of the alias; None where it agreed with the history.
        problem: what failed; empty where nothing did.
    """

    model_name: str
    expired: Entry | None = None
    repair: AliasRepair | None = None
    problem: str = ""

    @property
    def sentence(self) -> str:
        """What was done or failed; empty where there was nothing to do."""
        done = [f"v{self.expired.version} counts as refused: {self.expired.reason}."] if self.expired else []
        done += [self.repair.sentence] if self.repair else []
        done += [f"could not be looked after: {self.problem}"] if self.problem else []
        return f"{self.model_name}: {' '.join(done)}" if done else ""


def earlier_champions(entries: Sequence[Entry]) -> list[int]:
    """Return the versions that were champion before the present one, the last one first.

    A rollback removes the versions after its target from the list, so that the next rollback goes further back.
    """
    champions: list[int] = []
    for entry in entries:
        if entry.kind in PROMOTING and entry.version is not None:
            champions = champions[: champions.index(entry.version)] if entry.version in champions else champions
            champions.append(entry.version)
    return champions[-2::-1]


def roll_back(
    model_name: str,
    *,
    to: int | None = None,
    why: str,
    by: str = PERSON,
    flow_run: str = "",
    check: Callable[[int], None] | None = None,
) -> Entry:
    """Record that an earlier champion is champion again; the caller sets the alias.

    Idempotent: a rollback interrupted by a crash, and one requested again by the same person for the same reason,
    return the existing entry, so the caller finishes it and does not go further back.

    Args:
        model_name: registered model.
        to: version to go back to; None takes the previous champion.
        why: the reason, one sentence.
        by: name of the person.
        flow_run: id of the flow run that does it.
        check: called with the version before anything is written; may raise.

    Returns:
        The entry.

    Raises:
        ConfigError: there is nothing to go back to, or `to` was never champion.
        ConflictError: another writer changed the champion at the same time.
        BackendError: storage failed.
    """
    seen: list[int | None] = []
    known: list[Entry] = []

    def rollback(entries: Sequence[Entry]) -> Entry | None:
        champion = champion_entry(entries)
        now = champion.sequence if champion else None
        if seen and seen[0] != now:
            raise ConflictError(
                f"{model_name}: {champion.what if champion else 'the history changed'} at the same time; nothing was "
                "rolled back. Look at its history, then decide"
            )
        seen.append(now)
        if (there := known_rollback(entries, to=to, why=why, by=by)) is not None:
            known.append(there)
            return None
        version = rollback_target(model_name, entries, to)
        if check is not None:
            check(version)
        replaced = champion.version if champion else None
        return Entry(
            model=model_name,
            kind="rolled_back",
            version=version,
            replaced=replaced,
            reason=why,
            by=by,
            flow_run=flow_run,
        )

    return decide(model_name, rollback) or known[-1]


def known_rollback(entries: Sequence[Entry], *, to: int | None, why: str, by: str) -> Entry | None:
    """Return the entry of a requested rollback if it made the present champion; None if it is still to be done.

    Args:
        entries: the model's history.
        to: requested version; None for the previous champion.
        why: the reason given.
        by: name of the person who requests it.
    """
    champion = champion_entry(entries)
    if champion is None or champion.kind != "rolled_back" or to not in (None, champion.version):
        return None
    again = (champion.reason, champion.by) == (why, by)
    return champion if again or not carried_out(entries, champion) else None


def open_request(entries: Sequence[Entry]) -> Entry | None:
    """Return the open request for approval, expired or not; None where there is none.

    A newer request replaces an older one; any decision on its version closes it.
    """
    request = next((entry for entry in reversed(entries) if entry.kind == "requested"), None)
    if request is None:
        return None
    later = [entry for entry in entries if entry.sequence > request.sequence and entry.kind in DECISIONS]
    return None if any(entry.version == request.version for entry in later) else request


def expire_request(model_name: str, now: datetime) -> Entry | None:
    """Write a refusal for a request for approval that has expired.

    Returns:
        The refusal; None where no request has expired.
    """

    def expiry(entries: Sequence[Entry]) -> Entry | None:
        request = open_request(entries)
        if request is None or request.until is None or request.until > now:
            return None
        reason = f"the request of {moment(request.at)} expired unanswered at {moment(request.until)}"
        kept = {**request.details.get("decision", {}), "decision": "refused", "reason": reason}
        return Entry(
            model=model_name,
            kind="refused",
            version=request.version,
            replaced=request.replaced,
            reason=reason,
            by=AUTOMATIC,
            recipe=request.recipe,
            details={**request.details, "decision": kept, "request": request.sequence},
        )

    return decide(model_name, expiry)


def may_approve(by: str, approvers: Collection[str], groups: Mapping[str, Collection[str]]) -> bool:
    """Check whether a person may approve or refuse a request.

    Args:
        by: name of the person.
        approvers: names, and groups as ``@group``; empty allows every name.
        groups: names by group.
    """
    if not by or by.startswith("@"):  # the name of a group is not the name of one of its members
        return False
    return (
        not approvers
        or by in approvers
        or any(by in groups.get(entry[1:], ()) for entry in approvers if entry.startswith("@"))
    )


def difference(entries: Sequence[Entry], points_at: int | None) -> str:
    """Describe in a sentence how MLflow's alias differs from the history; empty when they agree.

    Args:
        entries: the model's history.
        points_at: version the alias points at; None where there is no alias.
    """
    champion = champion_entry(entries)
    named = champion.version if champion else None
    if named == points_at:
        return ""
    alias = f"points at v{points_at}" if points_at else "is not there"
    if champion is None:
        return (
            f"The alias {alias}, which the history does not know: it was set outside of this library, or before. "
            f"To take it over: prefect-mlops promote MODEL {points_at} --why TEXT"
        )
    if not carried_out(entries, champion):
        return f"v{named} was made champion, and the alias still {alias}: a crash came between, or it is being set."
    if not moved_by_hand(entries, points_at):
        return f"The history names v{named} as champion, but the alias {alias}: an older promotion set it late."
    moved = f"was moved to v{points_at}" if points_at else "was removed"
    return f"The history names v{named} as champion, but the alias {moved} by hand."


def moved_by_hand(entries: Sequence[Entry], points_at: int | None) -> bool:
    """Check whether an alias that differs from the history was changed outside of this library.

    A promotion writes its entry first and sets the alias afterwards. With two concurrent promotions, the older one may
    set the alias last and be killed before it sees the newer entry: then the alias points at a version whose promotion
    was never written as carried out, and this library moved it.

    Args:
        entries: the model's history.
        points_at: version the alias points at; None where there is no alias.
    """
    champion = champion_entry(entries)
    if champion is None or not carried_out(entries, champion):
        return False
    promotion = champion_entry([entry for entry in entries if entry.version == points_at])
    return promotion is None or carried_out(entries, promotion)


def under_way(entries: Sequence[Entry], now: datetime, *, flow_run: str = "") -> bool:
    """Check whether another run has written a promotion, holds the lock and has not yet set the alias.

    Args:
        entries: the model's history.
        now: current time, with a zone.
        flow_run: id of the calling flow run.
    """
    champion, lease = champion_entry(entries), held_lock(entries)
    if champion is None or lease is None or lease.until is None or carried_out(entries, champion):
        return False
    return lease.flow_run == champion.flow_run != flow_run and lease.until > now


def note_carried_out(champion: Entry, *, repaired: str = "", by_hand: bool = False) -> Entry | None:
    """Record that the alias points at the champion, unless the champion has changed since.

    Args:
        champion: promotion or rollback whose version the alias was set to.
        repaired: for a repair, what was wrong, one sentence.
        by_hand: the alias had been changed outside of this library.

    Returns:
        The entry; None when the champion has changed: the caller has to set the alias to the new one.
    """

    def done(entries: Sequence[Entry]) -> Entry | None:
        now = champion_entry(entries)
        if now is None or now.sequence != champion.sequence:
            return None
        return Entry(
            model=champion.model,
            kind="repaired" if repaired else "released",
            version=champion.version,
            reason=repaired,
            by=AUTOMATIC if repaired else champion.by,
            flow_run=champion.flow_run,
            details={"by_hand": True} if by_hand else {},
        )

    return decide(champion.model, done)


def deny(request: Entry, by: str, *, flow_run: str = "") -> Entry:
    """Write that a person without permission tried to answer a request."""
    reason = f"{by!r} answered the request for v{request.version} and is not among those who may"
    return record(
        Entry(model=request.model, kind="denied", version=request.version, reason=reason, by=by, flow_run=flow_run)
    )


def rollback_target(model_name: str, entries: Sequence[Entry], to: int | None) -> int:
    """Find the version a rollback makes champion.

    Args:
        model_name: registered model.
        entries: its history.
        to: requested version; None for the previous champion.

    Raises:
        ConfigError: there is nothing to go back to, or `to` was never champion.
    """
    earlier, champion = earlier_champions(entries), champion_entry(entries)
    if champion is None:
        raise ConfigError(f"{model_name}: nothing was promoted yet, so there is nothing to roll back")
    if to is None and not earlier:
        raise ConfigError(
            f"{model_name}: v{champion.version} is the first champion, there is none before it to go back to"
        )
    if to is None:
        return earlier[0]
    if to == champion.version:
        raise ConfigError(f"{model_name}: v{to} is the champion already, since {moment(champion.at)}")
    known = sorted({entry.version for entry in entries if entry.kind in PROMOTING and entry.version is not None})
    if to not in known:
        were = ", ".join(f"v{one}" for one in known)
        raise ConfigError(
            f"{model_name}: v{to} was never champion, only {were} were. To make it champion use: "
            f"prefect-mlops promote {model_name} {to} --why TEXT"
        )
    return to
