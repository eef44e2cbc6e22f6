# SPDX-License-Identifier: GPL-3.0-or-later
"""What types let through and cannot be in a frame: values out of range.

Plain loops with one condition are the quickest form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from quorate.config import KEY_BYTES_MAX
from quorate.core.topology.layout import EPOCH_MAX, LAYOUT_BYTES_MAX, MOVES_MAX
from quorate.core.values.messages import (
    BALLOT_BITS,
    BALLOT_COUNT_MAX,
    Accept,
    AcceptRows,
    Agree,
    AskSums,
    Ballot,
    Foundation,
    FoundStage,
    Frame,
    Instance,
    Known,
    ListBuckets,
    Listed,
    Message,
    Mutate,
    Mutated,
    OtherEpoch,
    Ping,
    Prepare,
    PrepareRows,
    Pull,
    PulledVotes,
    Read,
    ReadAnswer,
    RowsVoted,
    RowVote,
    Said,
    ScannedRows,
    ScanRows,
    Sums,
    Voted,
    Whereabouts,
)
from quorate.core.values.record import EXPIRES_MS_MAX, Record
from quorate.core.values.settings import (
    FOUNDERS_MAX,
    MEMBERS_MAX,
    NODE_ID_MAX,
    REPLICATION_MAX,
)
from quorate.core.values.slots import BUCKETS, PARTITION_COUNT, ROW_PREFIX_BYTES
from quorate.core.values.versions import (
    LINKED_BYTES,
    RECORD_LENGTHS,
    VERSION_BYTES,
    chain_of,
)
from quorate.errors import PeerProtocolError
from quorate.notation import URL_CHARS_MAX, is_url

COUNT_MAX: Final = (1 << 63) - 1
"""Of what is counted."""
_ITEMS_MAX: Final = 16_384
"""In a message that is acknowledged, maybe with a reason for each. Honest ones are cut at a
megabyte, each item counted with 100 bytes and its value."""
REASON_CHARS_MAX: Final = 300
_ROW_BYTES_MIN: Final = ROW_PREFIX_BYTES + 1
_ROW_BYTES_MAX: Final = ROW_PREFIX_BYTES + KEY_BYTES_MAX
_FIRST_BYTES: Final = PARTITION_COUNT >> 8
"""The first byte of a row is below it if its partition, the first two, exists. Compiled, that
compares two numbers; to compare bytes is a call."""
_PARTITIONS: Final = frozenset(range(PARTITION_COUNT))
_VERSION_LENGTHS: Final = (0, *RECORD_LENGTHS)
"""Of one that may be ABSENT."""
_NUMBER_MAX: Final = (1 << 64) - 1
_SUMS_LENGTHS: Final = (0, BUCKETS)
_STAGES: Final = frozenset(FoundStage)
_SAID: Final = frozenset(Said)


def check_frame(frame: Frame) -> None:
    """PeerProtocolError if a row, version, index or number in the frame cannot be one."""
    if not (0 <= frame.epoch <= EPOCH_MAX and 0 <= frame.clock < 1 << 64):
        raise PeerProtocolError("epoch or clock out of range")
    for message in frame.messages:
        rule = _RULES.get(type(message))
        if rule is not None and not rule(message):
            raise PeerProtocolError("value out of range", message=type(message).__name__)


def _are_rows(rows: list[bytes]) -> bool:
    for row in rows:
        if not (_ROW_BYTES_MIN <= len(row) <= _ROW_BYTES_MAX and row[0] < _FIRST_BYTES):
            return False
    return True


def _is_mutate(message: Mutate) -> bool:
    if len(message.items) > _ITEMS_MAX or not 0 <= message.lock <= COUNT_MAX:
        return False
    for row, record in message.items:
        is_row = _ROW_BYTES_MIN <= len(row) <= _ROW_BYTES_MAX and row[0] < _FIRST_BYTES
        if not (is_row and is_record(record)):
            return False
    return True


def is_record(record: Record) -> bool:
    """Whether versions, winners and expiry of a record can be those of one."""
    return record.is_of_plain_body or (
        (
            not record.winners
            if len(record.version) == VERSION_BYTES
            else len(record.version) == LINKED_BYTES and record.has_sound_winners()
        )
        and len(record.prior) in _VERSION_LENGTHS
        and 0 <= record.expires_ms <= EXPIRES_MS_MAX
    )


def _is_mutated(message: Mutated) -> bool:
    for index, version in message.superseded:
        if index < 0 or len(version) not in RECORD_LENGTHS:
            return False
    if len(message.denied) > len(message.superseded) or min(message.denied, default=0) < 0:
        return False
    return all(
        index >= 0 and len(reason) <= REASON_CHARS_MAX and reason.isprintable()
        for index, reason in message.refused
    )


def _is_read(message: Read) -> bool:
    return (
        -1 <= message.partition < PARTITION_COUNT
        and _are_rows(message.full)
        and _are_rows(message.brief)
    )


def _is_read_answer(message: ReadAnswer) -> bool:
    for record in message.records:
        if record is not None and not is_record(record):
            return False
    for version in message.versions:
        if len(version) not in _VERSION_LENGTHS:
            return False
    is_fit = _are_rows(message.failed) and _are_rows(message.withheld)
    return is_fit and 0 <= message.lock <= COUNT_MAX


def _is_scan_rows(message: ScanRows) -> bool:
    return 0 <= message.partition < PARTITION_COUNT and message.limit > 0


def _is_pull(message: Pull) -> bool:
    return (
        0 <= message.partition < PARTITION_COUNT
        and message.limit > 0
        and (message.base is None or len(message.base) in _VERSION_LENGTHS)
    )


def _is_scanned_rows(message: ScannedRows) -> bool:
    for entry in message.rows:
        if len(entry.version) not in RECORD_LENGTHS:
            return False
    for entry, record in zip(message.rows, message.records, strict=False):
        if not is_record(record) or record.version != entry.version:
            return False
    is_fit = len(message.records) <= len(message.rows)
    return is_fit and _are_rows([entry.row for entry in message.rows])


def _is_ping(message: Ping) -> bool:
    """Whether its members can be shown; whether each is a node's URL is asked once, when it is
    new."""
    if not (0 <= message.keys <= COUNT_MAX and 0 <= message.bytes_used <= COUNT_MAX):
        return False
    if not (0 <= message.pulled <= EPOCH_MAX and 0 <= message.left <= PARTITION_COUNT):
        return False
    if len(message.unreadable) > MOVES_MAX or not _PARTITIONS.issuperset(message.unreadable):
        return False
    return 0 <= message.facts <= COUNT_MAX and _are_whereabouts(message.members)


def _are_whereabouts(members: list[Whereabouts]) -> bool:
    return len(members) <= MEMBERS_MAX + 1 and all(
        0 <= each.id <= NODE_ID_MAX
        and 0 <= each.serial <= COUNT_MAX
        and 0 < len(each.url) <= URL_CHARS_MAX
        and each.url.isprintable()
        and len(each.client) <= URL_CHARS_MAX
        and each.client.isprintable()
        for each in members
    )


def _is_known(message: Known) -> bool:
    return (
        len(message.serials) <= MEMBERS_MAX + 1
        and all(
            0 <= node_id <= NODE_ID_MAX and 0 <= serial <= COUNT_MAX
            for node_id, serial in message.serials
        )
        and _are_whereabouts(message.members)
    )


def _is_other_epoch(message: OtherEpoch) -> bool:
    return 0 <= message.epoch <= EPOCH_MAX


def _is_ballot(ballot: Ballot) -> bool:
    return 0 <= ballot[0] <= BALLOT_COUNT_MAX and 0 <= ballot[1] < 1 << BALLOT_BITS


def _is_asked_vote(message: Prepare | Accept) -> bool:
    if isinstance(message, Accept):
        is_short = len(message.value) <= LAYOUT_BYTES_MAX
    else:
        is_short = len(message.lost) <= MEMBERS_MAX
    return is_short and 0 < message.number <= EPOCH_MAX and _is_ballot(message.ballot)


def _is_voted(message: Voted) -> bool:
    vote = message.vote
    return (
        0 < vote.number <= EPOCH_MAX
        and _is_ballot(vote.promised)
        and _is_ballot(vote.accepted)
        and len(vote.value) <= LAYOUT_BYTES_MAX
    )


def _is_agree(message: Agree) -> bool:
    return (
        0 <= message.boundary <= COUNT_MAX
        and len(message.digests) <= PARTITION_COUNT
        and all(
            0 <= partition < PARTITION_COUNT and 0 <= digest <= COUNT_MAX
            for partition, digest in message.digests
        )
        and len(message.fences) <= PARTITION_COUNT
        and all(
            0 <= partition < PARTITION_COUNT and all([0 <= each <= COUNT_MAX for each in told])
            for partition, *told in message.fences
        )
    )


def _is_ask_sums(message: AskSums) -> bool:
    return 0 <= message.partition < PARTITION_COUNT and 0 <= message.boundary <= COUNT_MAX


def _is_sums(message: Sums) -> bool:
    return len(message.sums) in _SUMS_LENGTHS and all(
        0 <= each <= COUNT_MAX for each in message.sums
    )


def _is_list_buckets(message: ListBuckets) -> bool:
    return (
        0 <= message.partition < PARTITION_COUNT
        and 0 <= message.buckets < 1 << BUCKETS
        and message.limit > 0
    )


def _is_found(message: Foundation) -> bool:
    return (
        message.stage in _STAGES
        and 0 < len(message.founders) <= FOUNDERS_MAX
        and 0 < message.replication <= REPLICATION_MAX
        and all(0 < node_id <= NODE_ID_MAX and is_url(url) for node_id, url in message.founders)
    )


def _is_listed(message: Listed) -> bool:
    return _are_rows([row for row, _ in message.rows]) and all(
        len(version) in RECORD_LENGTHS for _, version in message.rows
    )


def _is_prepare_rows(message: PrepareRows) -> bool:
    return (
        len(message.items) <= _ITEMS_MAX
        and _are_rows([row for row, _, _, _ in message.items])
        and all(
            (version is None or len(version) in RECORD_LENGTHS)
            and _is_ballot(ballot)
            and len(known) in _VERSION_LENGTHS
            for _, version, ballot, known in message.items
        )
    )


def _is_accept_rows(message: AcceptRows) -> bool:
    return (
        len(message.items) <= _ITEMS_MAX
        and _are_rows([row for row, _, _, _ in message.items])
        and all(
            _is_ballot(ballot) and is_record(record) and _is_successor(record, base)
            for _, base, ballot, record in message.items
        )
    )


def _is_successor(record: Record, base: bytes) -> bool:
    """Whether the record is of a later link of the chain of a version, or a put that is moved."""
    version = record.version
    return (
        len(base) in RECORD_LENGTHS
        and version > base
        and (len(version) == VERSION_BYTES or chain_of(version) == chain_of(base))
    )


def _is_rows_voted(message: RowsVoted) -> bool:
    return len(message.votes) <= _ITEMS_MAX and all(_is_row_vote(vote) for vote in message.votes)


def _is_row_vote(vote: RowVote) -> bool:
    if not (vote.said in _SAID and _is_ballot(vote.promised) and _is_ballot(vote.accepted)):
        return False
    told = [each for each in (vote.record, vote.held) if each is not None]
    return all(is_record(each) for each in told) and len(vote.base) in _VERSION_LENGTHS


def _is_pulled_votes(message: PulledVotes) -> bool:
    return (
        len(message.votes) <= _ITEMS_MAX
        and _are_rows([row for row, _, _, _ in message.votes])
        and all(
            len(floor) in _VERSION_LENGTHS
            and 0 <= lost <= _NUMBER_MAX
            and (each is None or _is_instance(each))
            for _, floor, lost, each in message.votes
        )
    )


def _is_instance(instance: Instance) -> bool:
    return (
        len(instance.base) in RECORD_LENGTHS
        and _is_ballot(instance.promised)
        and _is_ballot(instance.accepted)
        and (instance.record is None or is_record(instance.record))
    )


# A table of rules for different message types cannot be typed without Any.
_RULES: Final[dict[type[Message], Callable[[Any], bool]]] = {
    Mutate: _is_mutate,
    Mutated: _is_mutated,
    Read: _is_read,
    ReadAnswer: _is_read_answer,
    ScanRows: _is_scan_rows,
    ScannedRows: _is_scanned_rows,
    Ping: _is_ping,
    OtherEpoch: _is_other_epoch,
    Prepare: _is_asked_vote,
    Accept: _is_asked_vote,
    Voted: _is_voted,
    Pull: _is_pull,
    PulledVotes: _is_pulled_votes,
    Agree: _is_agree,
    AskSums: _is_ask_sums,
    Sums: _is_sums,
    Known: _is_known,
    ListBuckets: _is_list_buckets,
    Listed: _is_listed,
    Foundation: _is_found,
    PrepareRows: _is_prepare_rows,
    AcceptRows: _is_accept_rows,
    RowsVoted: _is_rows_voted,
}
