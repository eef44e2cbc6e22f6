# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster that changes: `POST /leave`, `/replace`, `/plan`, `/plan/HASH/apply`, `/plan/cancel`,
`/upgrade/finish`, and `GET /topology` and `/upgrade`.

A plan is shown before it is done: it is applied as it was shown (`plans`), or, once the cluster has
moved on, not at all (409). So of two operators at once one is told.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from aiohttp import web

from quorate.core.values.events import Change, ChangeResult
from quorate.core.values.status import MemberView
from quorate.core.values.wish import Preview, Share, Wish
from quorate.doors.http.context import Context, ask, respond_json
from quorate.doors.http.query import Query
from quorate.doors.http.request import decode_json, read_body
from quorate.errors import InvalidRequest
from quorate.notation import parse_node, show_count
from quorate.security.keeping import WARN_BEFORE

_BODY_BYTES_MAX: Final = 64 << 10
_DAY_S: Final = 86_400
NODES_MAX: Final = 100
"""That one plan names of a kind: each is looked for among all members."""
_Few: Final = msgspec.Meta(max_length=NODES_MAX)


class LeaveBody(msgspec.Struct, forbid_unknown_fields=True):
    """Who is to leave."""

    node: str
    """Its URL or its id."""
    force: bool | msgspec.UnsetType = msgspec.UNSET
    """Though fewer nodes than copies are left, zones cannot be kept apart, or it is not there."""


class ReplaceBody(msgspec.Struct, forbid_unknown_fields=True):
    """Who goes, and who takes its place."""

    old: str
    new: str


class PlanBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is to change. Nothing: what the cluster comes to as it is."""

    leave: Annotated[list[str], _Few] | msgspec.UnsetType = msgspec.UNSET
    replace: Annotated[dict[str, str], _Few] | msgspec.UnsetType = msgspec.UNSET
    """By who goes, who takes its place."""
    weight: Annotated[dict[str, int], _Few] | msgspec.UnsetType = msgspec.UNSET
    zone: Annotated[dict[str, str], _Few] | msgspec.UnsetType = msgspec.UNSET
    replication: int | msgspec.UnsetType = msgspec.UNSET
    recover: Annotated[list[str], _Few] | msgspec.UnsetType = msgspec.UNSET
    """Whose disks are given up for lost where no majority of the voters is left; alone."""
    force: bool | msgspec.UnsetType = msgspec.UNSET


class MemberCourse(msgspec.Struct, frozen=True):
    """A member, and what its copies come to."""

    url: str
    id: str
    state: str
    zone: str
    weight: int
    """0 if it goes."""
    copies: int
    """Partitions of which it has a copy."""
    gains: int
    """Copies that it has yet to be given."""
    gives: int
    """Copies that it has yet to give up."""
    left: int
    """Of those that it is given now, how many it has yet to get, by its own word."""
    lost: bool
    """Whether its disk is lost: nobody waits for what it had."""


class TopologyAnswer(msgspec.Struct, frozen=True):
    """What the cluster is, and what it comes to."""

    node: str
    """Who says so."""
    epoch: int
    phase: str
    replication: int
    copies: int
    """Of partitions, altogether, once all are where they belong."""
    to_move: int
    """Of these, how many are not yet there."""
    bytes: int
    """About, that are to move."""
    eta_s: int | None
    """Until all are where they belong; null where nothing moves, or nobody can tell."""
    bytes_s: int | None
    """How fast they move, by which that is told; null where it is not, or not in bytes."""
    eta_estimated: bool
    """Whether that is only how fast copies were seen to move before these."""
    waits: list[str]
    """What does not go on, as this node sees it: who, why, for how long, and what to do."""
    crowded: list[str]
    """Why copies of some keys share a zone."""
    members: list[MemberCourse]
    agreed_age_s: int
    """How long ago all replicas of what this node holds were last known to be equal."""
    agreed_waits: str
    """What holds that up; empty if nothing does."""
    tombstones: int
    """That this node holds."""
    tombstones_wait: str
    """What keeps them from being dropped; empty if nothing does."""
    certificate_expires_s: int | None
    """Until the first certificate that this node was given expires; null where none was."""
    certificate_waits: str
    """That this is soon, and what to do; empty if it is not."""


class NodeRelease(msgspec.Struct, frozen=True):
    """A node, and of which release it is."""

    url: str
    id: str
    state: str
    version: str
    level: int
    """The highest feature level that it knows; 0 while never met."""
    protocol: int
    """What links with it speak; 0 while never met."""


class UpgradeAnswer(msgspec.Struct, frozen=True):
    """How far an upgrade is."""

    node: str
    """Who says so."""
    level: int
    """The feature level in force."""
    next_level: int
    """The one that `POST /upgrade/finish` puts in force; the same if there is none."""
    waits: list[str]
    """What holds that up, a line for each node."""
    nodes: list[NodeRelease]


class PlanAnswer(msgspec.Struct, frozen=True):
    """A plan that can be applied at the node that showed it."""

    hash: str
    node: str
    plan: Preview
    eta_s: int | None
    """About how long it takes, by how fast copies were last seen to move; null where none were."""
    bytes_s: int | None
    """How fast that was; null where it is not known, or not in bytes."""


class ChangeAnswer(msgspec.Struct, frozen=True):
    """What was decided."""

    epoch: int
    """Of the layout that says so."""
    changed: bool
    """False if it was so already."""
    plan: Preview


async def leave(context: Context, request: web.Request, query: Query) -> web.Response:
    """POST /leave: a member gives its copies to the others, and then is none any more."""
    asked = decode_json(await _body(context, request), _leaving)
    wish = Wish(leave=(_node(asked.node),), is_forced=asked.force is True)
    return await _change(context, query, wish)


async def replace(context: Context, request: web.Request, query: Query) -> web.Response:
    """POST /replace: a node that holds nothing takes the place of a member."""
    asked = decode_json(await _body(context, request), _replacing)
    return await _change(context, query, Wish(replace=((_node(asked.old), _node(asked.new)),)))


async def plan(context: Context, request: web.Request, query: Query) -> web.Response:
    """POST /plan: what changes would come to; changes nothing."""
    asked = decode_json(await _body(context, request) or b"{}", _planning)
    wish = Wish(
        leave=tuple(map(_node, asked.leave or ())),
        replace=tuple([(_node(old), _node(new)) for old, new in (asked.replace or {}).items()]),
        weights=tuple([(_node(name), weight) for name, weight in (asked.weight or {}).items()]),
        zones=tuple([(_node(name), zone) for name, zone in (asked.zone or {}).items()]),
        replication=_replication(asked.replication),
        recover=tuple(map(_node, asked.recover or ())),
        is_forced=asked.force is True,
    )
    shown = await _preview(context, query, wish)
    name = context.plans.keep(shown.epoch, wish)
    eta = context.pace.estimate(shown.copies, shown.bytes)
    url = context.store.status().url
    return respond_json(PlanAnswer(name, url, shown, eta.seconds, eta.bytes_s))


async def apply(context: Context, request: web.Request, query: Query) -> web.Response:
    """POST /plan/HASH/apply: do what was shown."""
    epoch, wish = context.plans.find(request.match_info["hash"])
    return await _change(context, query, wish, from_epoch=epoch)


async def cancel(context: Context, _request: web.Request, query: Query) -> web.Response:
    """POST /plan/cancel: every copy stays where it is."""
    return await _change(context, query, Wish(stops=True))


async def upgrade(context: Context, _request: web.Request, _query: Query) -> web.Response:
    """GET /upgrade: which releases there are, and what holds the next feature level up."""
    status = context.store.status()
    nodes = [
        NodeRelease(each.url, each.id, each.state, each.version, each.level, each.protocol)
        for each in status.members
    ]
    answer = UpgradeAnswer(status.url, status.level, status.next_level, status.level_waits, nodes)
    return respond_json(answer)


async def finish(context: Context, _request: web.Request, query: Query) -> web.Response:
    """POST /upgrade/finish: put the highest feature level in force that all nodes know."""
    return await _change(context, query, Wish(raises_level=True))


async def topology(context: Context, _request: web.Request, query: Query) -> web.Response:
    """GET /topology: what the cluster is, what moves, and what waits."""
    status = context.store.status()
    coming = None
    if status.phase != "forming":
        coming = await context.lately.coming.get(
            lambda: _preview(context, query, Wish()), of=status.epoch
        )
    shares = {} if coming is None else {each.id: each for each in coming.shares}
    waits = list(status.waits)
    if coming is not None and coming.copies and status.phase == "stable":
        waits.append(
            f"{coming.copies} copies stay where they are, though weights and zones want them "
            "elsewhere: a change was cancelled; to move them: quorate plan, then quorate apply"
        )
    expires_s = context.numbers().get("certificate_expires_s")
    eta = context.pace.of(status, coming)
    answer = TopologyAnswer(
        node=status.url,
        epoch=status.epoch,
        phase=status.phase,
        replication=status.replication,
        copies=sum(each.after for each in shares.values()),
        to_move=0 if coming is None else coming.copies,
        bytes=0 if coming is None else coming.bytes,
        eta_s=eta.seconds,
        bytes_s=eta.bytes_s,
        eta_estimated=eta.is_estimate,
        waits=waits,
        crowded=[] if coming is None else coming.crowded,
        members=[_course(each, shares.get(each.id)) for each in status.members if each.member],
        agreed_age_s=status.agreed_age_s,
        agreed_waits=status.agreed_waits,
        tombstones=status.tombstones,
        tombstones_wait=status.tombstones_wait,
        certificate_expires_s=expires_s,
        certificate_waits=_expiry(status.url, expires_s),
    )
    return respond_json(answer)


def _expiry(url: str, expires_s: int | None) -> str:
    """That the first certificate of the node at `url` expires soon, and what to do."""
    if expires_s is None or expires_s >= WARN_BEFORE.total_seconds():
        return ""
    left = show_count(expires_s // _DAY_S, "day")
    when = f"expires in {left}" if expires_s > 0 else "has expired"
    return (
        f"a certificate that {url} was given {when}: put a new one in the place of -tls-cert, or of"
        " -tls-ca; it is read by itself"
    )


def _course(member: MemberView, share: Share | None) -> MemberCourse:
    return MemberCourse(
        url=member.url,
        id=member.id,
        state=member.state,
        zone=member.zone,
        weight=member.weight,
        copies=member.partitions if share is None else share.before,
        gains=0 if share is None else share.gains,
        gives=0 if share is None else share.gives,
        left=member.left,
        lost=member.lost,
    )


async def _preview(context: Context, query: Query, wish: Wish) -> Preview:
    timeout_ms = query.timeout_ms()
    result = await ask(
        context.store,
        lambda waiter: Change(waiter, wish, is_preview=True, timeout_ms=timeout_ms),
        ChangeResult,
    )
    return result.plan


async def _change(
    context: Context, query: Query, wish: Wish, *, from_epoch: int = 0
) -> web.Response:
    timeout_ms = query.timeout_ms()
    result = await ask(
        context.store,
        lambda waiter: Change(waiter, wish, from_epoch=from_epoch, timeout_ms=timeout_ms),
        ChangeResult,
    )
    epoch = result.epoch or result.plan.epoch
    return respond_json(ChangeAnswer(epoch, result.epoch > 0, result.plan))


async def _body(context: Context, request: web.Request) -> bytes:
    return await read_body(context, request, bytes_max=_BODY_BYTES_MAX)


def _node(text: str) -> str:
    try:
        return parse_node(text)
    except ValueError as fault:
        raise InvalidRequest(f"not a node: {fault}") from None


def _replication(given: int | msgspec.UnsetType) -> int:
    if given is msgspec.UNSET:
        return 0
    if given < 1:
        raise InvalidRequest("each key has at least one copy", replication=given)
    return given


_leaving: Final = msgspec.json.Decoder(LeaveBody)
_replacing: Final = msgspec.json.Decoder(ReplaceBody)
_planning: Final = msgspec.json.Decoder(PlanBody)
