# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP API as an OpenAPI 3.1 document, made of the table of routes and the table of errors.

What those do not say (what an answer holds) stands here, a row for each route: a route without a
row is a KeyError, and a test compares real answers with what the document says of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from quorate import __version__
from quorate.config import KEY_BYTES_MAX
from quorate.core.values.events import SCAN_ROWS_MAX, CheckResult
from quorate.core.values.record import EXPIRES_MS_MAX
from quorate.core.values.status import CandidateView, MemberView, Probe
from quorate.doors.access import Role
from quorate.doors.errors import answer_for
from quorate.doors.http import changes, joining
from quorate.doors.http.batch import BatchBody
from quorate.doors.http.internal import RECORD_TYPE
from quorate.doors.http.problems import PROBLEM_TYPE
from quorate.doors.http.query import QUORUM_MAX, TTL_SECONDS_MAX
from quorate.errors import BY_CODE, Outcome

REFUSALS: Final = {
    "bad_body": 400,
    "bad_request": 400,
    "partial_write": 400,
    "foreign_origin": 403,
    "no_such_path": 404,
    "no_such_plan": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_slow": 408,
    "target_too_long": 414,
    "unsupported_encoding": 415,
    "expectation_failed": 417,
    "misdirected": 421,
    "header_too_large": 431,
    "unsupported_coding": 501,
    "http_version": 505,
}
"""Codes that only HTTP knows (`Refused`), with their status."""

Schema = dict[str, Any]
_STRING: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_FLAG: Final[Schema] = {"type": "boolean"}
_VERSION: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{28}([0-9a-f]{16})?$"}
_TEXT: Final[Schema] = {"$ref": "#/components/schemas/Text"}


def _object(properties: Schema, *, optional: Iterable[str] = ()) -> Schema:
    required = [name for name in properties if name not in set(optional)]
    return {"type": "object", "properties": properties, "required": required}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _quorum(meaning: str) -> tuple[str, Schema]:
    return meaning, {"type": "integer", "minimum": 1, "maximum": QUORUM_MAX}


PARAMETERS: Final[dict[str, tuple[str, Schema]]] = {
    "key": (f"The key: any bytes, percent-encoded; at most {KEY_BYTES_MAX} of them", _STRING),
    "r": _quorum("How many replicas must answer a read; the node's -R if not given"),
    "w": _quorum("How many replicas must have a write on disk; the node's -W if not given"),
    "timeout": ("How long it may take, with a unit: 500ms, 2s", {"type": "string"}),
    "ttl": (
        "Seconds after which the value is gone; to /incr, that of a counter that begins",
        {"type": "integer", "minimum": 1, "maximum": TTL_SECONDS_MAX},
    ),
    "by": ("What to add, from -2^63 to 2^63 - 1; 1 if not given", {"type": "string"}),
    "since_ms": (
        "This was first sent then, in milliseconds since 1970, under the same Idempotency-Key: do "
        "nothing if it cannot be told whether it took effect",
        {"type": "integer", "minimum": 1, "maximum": EXPIRES_MS_MAX},
    ),
    "prefix": ("List only keys that begin so", _STRING),
    "cursor": ("Where the page before ended, as it said", _STRING),
    "url": ("The member's URL", _STRING),
    "hash": ("A plan's name, as `POST /plan` said it", _STRING),
    "limit": (
        "The most keys in a page",
        {"type": "integer", "minimum": 1, "maximum": SCAN_ROWS_MAX},
    ),
}

HEADERS: Final[dict[str, tuple[str, Schema]]] = {
    "ETag": (
        "The version, in quotes",
        {"type": "string", "pattern": '^"[0-9a-f]{28}([0-9a-f]{16})?"$'},
    ),
    "Quorate-Version": (
        "The version: higher is newer, compared as text and not as a number",
        _VERSION,
    ),
    "Quorate-Consistency": (
        "What operations with these r and w promise",
        {"enum": ["linearizable", "regular", "eventual"]},
    ),
    "Quorate-Acks": (
        "Replicas that have the write, of how many",
        {"type": "string", "pattern": "^[0-9]+/[0-9]+$"},
    ),
    "Quorate-Restamped": (
        "There if the write met a newer version and was stamped again; moved: it may be seen twice",
        {"enum": ["true", "moved"]},
    ),
    "Quorate-Repeated": (
        "There if the request took effect before, by its Idempotency-Key",
        {"const": "true"},
    ),
    "Quorate-Applied": ("Whether this replica holds the record now", {"enum": ["true", "false"]}),
    "Quorate-Cursor": ("Where the next page begins, if there is one", _STRING),
}

REQUEST_HEADERS: Final = {
    "If-Match": "Only if one of these versions is there (RFC 9110); 412 otherwise",
    "If-None-Match": "Only if none of these is there; * is any. 412 otherwise, to a read 304",
    "Idempotency-Key": "A name for the request, so that it may be sent again without harm",
}


class Described(NamedTuple):
    """What the table of routes does not say of a route."""

    summary: str
    answer: Mapping[str, Schema]
    """The body of an answer: schemas by type."""
    body: Mapping[str, Schema] = {}
    """The same of a request."""
    needs_body: bool = True
    """Whether it has to have one, if it may."""
    asks: tuple[str, ...] = ()
    """Headers of a request."""
    headers: tuple[str, ...] = ()
    also: Mapping[str, str] = {}
    """Other answers than 200 and errors, by status."""


_JSON: Final = "application/json"


def _made(name: str) -> Mapping[str, Schema]:
    """JSON, of a type's own schema."""
    return {_JSON: {"$ref": f"#/components/schemas/{name}"}}


_BYTES: Final[Schema] = {}
_READ: Final = ("ETag", "Quorate-Version", "Quorate-Consistency")
_WRITTEN: Final = (*_READ, "Quorate-Acks", "Quorate-Repeated")
_PUT: Final = (*_WRITTEN, "Quorate-Restamped")
_CONDITIONS: Final = ("If-Match", "If-None-Match")
_PLAIN: Final = "text/plain"
_OCTETS: Final = "application/octet-stream"
_RESULT: Final = _object(
    {
        "key": _TEXT,
        "status": {"type": "integer"},
        "version": _VERSION,
        "value": _TEXT,
        "expires_ms": _COUNT,
        "acks": _COUNT,
        "code": _STRING,
    },
    optional=("version", "value", "expires_ms", "acks", "code"),
)
_REPLICA: Final = _object(
    {
        "url": _STRING,
        "state": _STRING,
        "version": _or_null(_STRING),
        "live": _or_null(_FLAG),
        "expires_ms": _COUNT,
        "hints": _COUNT,
    }
)
_EXPLAINED: Final = _object(
    {
        "key": _TEXT,
        "slot": _COUNT,
        "partition": _COUNT,
        "epoch": _COUNT,
        "replicas": _list(_REPLICA),
    }
)
_OK: Final = {_PLAIN: {"const": "ok"}}

_CHANGING: Final = (
    *(changes.LeaveBody, changes.ReplaceBody, changes.PlanBody),
    *(CheckResult, CandidateView, Probe),
    *(changes.PlanAnswer, changes.ChangeAnswer, changes.TopologyAnswer, changes.UpgradeAnswer),
    *(joining.TokenBody, joining.TokenAnswer, joining.EntryBody, joining.EntryAnswer),
)

DESCRIBED: Final[dict[tuple[str, str], Described]] = {
    ("GET", "/kv"): Described(
        "Read a value",
        {_OCTETS: _BYTES},
        asks=_CONDITIONS,
        headers=_READ,
        also={"304": "If-None-Match names the version that was read"},
    ),
    ("PUT", "/kv"): Described(
        "Write a value",
        _OK,
        body={_OCTETS: _BYTES},
        asks=tuple(REQUEST_HEADERS),
        headers=_PUT,
    ),
    ("DELETE", "/kv"): Described("Delete a key", _OK, asks=tuple(REQUEST_HEADERS), headers=_PUT),
    ("POST", "/incr"): Described(
        "Add to a counter, and say what it comes to: it is read, too",
        {_PLAIN: {"type": "string", "pattern": "^-?[0-9]*$"}},
        asks=("Idempotency-Key",),
        headers=_WRITTEN,
    ),
    ("GET", "/keys"): Described(
        "List keys, in the order of the store",
        {_JSON: _object({"keys": _list(_TEXT), "cursor": _or_null(_STRING), "complete": _FLAG})},
    ),
    ("POST", "/batch"): Described(
        "Do many operations, each on its own",
        {_JSON: _object({"results": _list(_RESULT)})},
        body={_JSON: {"$ref": "#/components/schemas/BatchBody"}},
    ),
    ("GET", "/explain"): Described(
        "Say where a key is, and what each replica holds", {_JSON: _EXPLAINED}
    ),
    ("GET", "/nodes"): Described(
        "List the members as this node sees them; with Accept: text/plain their URLs",
        {_JSON: _list({"$ref": "#/components/schemas/MemberView"}), _PLAIN: _STRING},
    ),
    ("GET", "/candidates"): Described(
        "List where nodes may be of which none has greeted this one as its cluster's",
        {_JSON: _list({"$ref": "#/components/schemas/CandidateView"})},
    ),
    ("GET", "/probe"): Described(
        "Try to reach a member, where it is or clients reach it, or a candidate, step by step",
        _made("Probe"),
    ),
    ("POST", "/join"): Described(
        "Make a node a member, or announce it again",
        {_JSON: _object({"url": _STRING, "known": _FLAG, "owns": _FLAG, "member": _FLAG})},
        body={_PLAIN: _STRING, _JSON: _object({"url": _STRING})},
    ),
    ("DELETE", "/join"): Described(
        "Forget a member that holds no copies and is not there",
        {_JSON: _object({"url": _STRING, "known": _FLAG})},
    ),
    ("POST", "/join/token"): Described(
        "Make a token that lets new nodes have the cluster's secret",
        _made("TokenAnswer"),
        body=_made("TokenBody"),
    ),
    ("POST", "/join/secret"): Described(
        "Have the cluster's secret, by a join token, inside TLS",
        _made("EntryAnswer"),
        body=_made("EntryBody"),
    ),
    ("POST", "/leave"): Described(
        "Have a member give its copies to the others, and then go",
        _made("ChangeAnswer"),
        body=_made("LeaveBody"),
    ),
    ("POST", "/replace"): Described(
        "Have a node that holds no copies take the place of a member",
        _made("ChangeAnswer"),
        body=_made("ReplaceBody"),
    ),
    ("POST", "/plan"): Described(
        "Show what changes would come to; without a body, what the cluster comes to as it is",
        _made("PlanAnswer"),
        body=_made("PlanBody"),
        needs_body=False,
    ),
    ("POST", "/plan/{hash}/apply"): Described("Do what a plan showed", _made("ChangeAnswer")),
    ("POST", "/plan/cancel"): Described("Leave every copy where it is", _made("ChangeAnswer")),
    ("GET", "/topology"): Described(
        "Show who has which share of the copies, what moves, and what waits",
        _made("TopologyAnswer"),
    ),
    ("POST", "/check"): Described(
        "Compare the digests of this node's copies with what it holds", _made("CheckResult")
    ),
    ("GET", "/check"): Described("Say how far that is, or what came of it", _made("CheckResult")),
    ("GET", "/upgrade"): Described(
        "Show which releases there are, and what holds the next feature level up",
        _made("UpgradeAnswer"),
    ),
    ("POST", "/upgrade/finish"): Described(
        "Put the highest feature level in force that all nodes know, for good",
        _made("ChangeAnswer"),
    ),
    ("GET", "/healthz"): Described("Say whether the process serves at all", _OK),
    ("GET", "/readyz"): Described("Say whether requests belong here", _OK),
    ("GET", "/metrics"): Described("Tell all that is counted, for Prometheus", {_PLAIN: _STRING}),
    ("GET", "/openapi.json"): Described("Return this document", {_JSON: {"type": "object"}}),
    ("GET", "/internal/ping"): Described("Say whether this node is ready", _OK),
    ("GET", "/internal/get"): Described(
        "Read this node's own record of a key",
        {RECORD_TYPE: _BYTES},
        headers=("Quorate-Version",),
    ),
    ("POST", "/internal/replicate"): Described(
        "Keep a record if it is newer",
        _OK,
        body={RECORD_TYPE: _BYTES},
        headers=("Quorate-Applied", "Quorate-Version"),
    ),
    ("GET", "/internal/keys"): Described(
        "List live keys of this node, one a line", {_PLAIN: _STRING}, headers=("Quorate-Cursor",)
    ),
    ("GET", "/local/keys"): Described(
        "List live keys of this node, one a line", {_PLAIN: _STRING}, headers=("Quorate-Cursor",)
    ),
}


class Served(NamedTuple):
    """What the document takes of a row of the table of routes."""

    method: str
    path: str
    role: Role
    parameters: frozenset[str]


def document(routes: Iterable[Served]) -> Schema:
    """The whole document, as JSON has it."""
    paths: Schema = {}
    for route in routes:
        methods = ("get", "head") if route.method == "GET" else (route.method.lower(),)
        for method in methods:
            paths.setdefault(route.path, {})[method] = _operation(route, method)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Quorate",
            "version": __version__,
            "license": {"name": "GPL-3.0-or-later", "identifier": "GPL-3.0-or-later"},
        },
        "paths": paths,
        "components": {
            "parameters": {
                **{name: _parameter(name) for name in PARAMETERS},
                **{name: _header(name) for name in REQUEST_HEADERS},
            },
            "headers": {
                name: {"description": meaning, "schema": schema}
                for name, (meaning, schema) in HEADERS.items()
            },
            "responses": {
                "Problem": {
                    "description": "An error: `code` says which, `outcome` what became of a write",
                    "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
            "schemas": _schemas(),
            "securitySchemes": {
                scheme: {"type": "http", "scheme": scheme} for scheme in ("basic", "bearer")
            },
        },
    }


def _parameter(name: str) -> Schema:
    meaning, schema = PARAMETERS[name]
    is_needed = name in ("hash", "key", "url")
    where = "path" if name == "hash" else "query"
    place: Schema = {"name": name, "in": where, "required": is_needed}
    return {**place, "description": meaning, "schema": schema}


def _header(name: str) -> Schema:
    return {
        "name": name,
        "in": "header",
        "description": REQUEST_HEADERS[name],
        "schema": _STRING,
    }


def _schemas() -> Schema:
    _, made = msgspec.json.schema_components(
        [BatchBody, MemberView, *_CHANGING], ref_template="#/components/schemas/{name}"
    )
    text = {
        "description": "Bytes: a string where they are UTF-8",
        "anyOf": [_STRING, {"$ref": "#/components/schemas/Base64"}],
    }
    return {**made, "Text": text, "Problem": _problem()}


def _operation(route: Served, method: str) -> Schema:
    described = DESCRIBED[route.method, route.path]
    answer: Schema = {
        "description": "Done",
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in described.headers},
    }
    if method != "head":
        answer["content"] = _content(described.answer)
    operation: Schema = {
        "operationId": re.sub("[^a-z]+", "_", method + route.path),
        "summary": described.summary,
        "description": f"Needs the role `{route.role}`.",
        "parameters": [
            {"$ref": f"#/components/parameters/{name}"}
            for name in [
                *re.findall(r"{(\w+)}", route.path),
                *sorted(route.parameters),
                *described.asks,
            ]
        ],
        "responses": {
            "200": answer,
            **{status: {"description": text} for status, text in described.also.items()},
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }
    if route.role is not Role.STRANGER:
        # Of nobody, where no users are configured.
        operation["security"] = [{"basic": []}, {"bearer": []}, {}]
    if described.body:
        operation["requestBody"] = {
            "required": described.needs_body,
            "content": _content(described.body),
        }
    return operation


def _content(schemas: Mapping[str, Schema]) -> Schema:
    return {media: {"schema": schema} for media, schema in schemas.items()}


def statuses() -> dict[str, int]:
    """Every code of a problem with its status."""
    return {code: answer_for(kind("")).status for code, kind in BY_CODE.items()} | REFUSALS


def _problem() -> Schema:
    by_code = statuses()
    return {
        "description": "RFC 9457, with facts of the error as further members",
        **_object(
            {
                "type": _STRING,
                "title": _STRING,
                "status": {"enum": sorted(set(by_code.values()))},
                "detail": _STRING,
                "code": {"enum": sorted(by_code)},
                "outcome": {"enum": [each.value for each in Outcome]},
            },
            optional=("outcome",),
        ),
    }
