# SPDX-License-Identifier: GPL-3.0-or-later
"""The OpenAPI document: valid, of the tables of routes and errors, and true of real answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version
from quorate.doors.http import door, openapi
from quorate.doors.http.door import ROUTES, methods_of
from quorate.doors.http.internal import encode_record
from quorate.doors.limits import FREE_BYTES
from quorate.errors import BY_CODE, Outcome, QuorateError
from tests.fake_store import NODES, FakeStore
from tests.http_served import Client, Response, Served, get, post

SOURCE = Path(door.__file__).parent
DOCUMENT: dict[str, Any] = json.loads(door._document())
RECORD = encode_record(b"k", Record(pack_version(1, 1), b"v"))
BODIES = {
    "/kv": b"v",
    "/batch": b'{"operations": [{"op": "get", "key": "k"}, {"op": "get", "key": "none"}]}',
    "/join": b"http://127.0.0.1:9000",
    "/leave": json.dumps({"node": NODES[1], "force": True}).encode(),
    "/replace": json.dumps({"old": NODES[1], "new": NODES[2]}).encode(),
    "/plan": b'{"replication": 2}',
    "/internal/replicate": RECORD,
    "/join/token": b'{"ttl": "1h", "uses": 2}',
    "/join/secret": json.dumps({"token": "qj1.", "claim": "00" * 32}).encode(),
}
STATUSES = {"/join/secret": 403}
"""Of what is not 200 here: nothing of this is inside TLS."""


def check(value: object, schema: dict[str, Any]) -> None:
    whole = {**schema, "components": DOCUMENT["components"]}
    OAS31Validator(whole).validate(value)


def described(operation: dict[str, Any], answer: Response) -> None:
    """Whether the answer is what the document says."""
    told = operation["responses"].get(str(answer.status))
    if told is None:
        reference = operation["responses"]["default"]["$ref"]
        told = DOCUMENT["components"]["responses"][reference.rpartition("/")[2]]
    for name, value in answer.headers.items():
        if name == "etag" or name.startswith("quorate-"):
            known = {each.lower(): each for each in DOCUMENT["components"]["headers"]}
            assert answer.status != 200 or known[name] in told["headers"]
            check(value, DOCUMENT["components"]["headers"][known[name]]["schema"])
    if not answer.body:
        return
    media = answer.headers["content-type"].partition(";")[0]
    body: Any = answer.body.decode("latin-1")
    check(json.loads(body) if media.endswith("json") else body, told["content"][media]["schema"])


def test_the_document_is_openapi_3_1(http_client: Client) -> None:
    answer = get(http_client, "/openapi.json")
    assert answer.headers["content-type"].startswith("application/json")
    assert json.loads(answer.body) == DOCUMENT
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_its_operations_are_the_routes() -> None:
    found = {
        (method.upper(), path): {
            each["$ref"].rpartition("/")[2] for each in operation["parameters"]
        }
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
    }
    assert found == {
        (method, route.path): {
            *route.parameters,
            *re.findall(r"{(\w+)}", route.path),
            *openapi.DESCRIBED[route.method, route.path].asks,
        }
        for route in ROUTES
        for method in methods_of(route)
    }
    assert set(openapi.DESCRIBED) == {(route.method, route.path) for route in ROUTES}


def test_its_codes_are_those_that_the_door_answers_with() -> None:
    texts = [path.read_text("utf-8") for path in SOURCE.glob("*.py")]
    used = {
        code: int(status)
        for text in texts
        for status, code in re.findall(r'Refused\(\s*(\d{3}),\s*"(\w+)"', text)
    }
    assert used == openapi.REFUSALS
    assert set(openapi.statuses()) == set(BY_CODE) | set(used)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_answers_are_as_it_says(http: Served, http_client: Client, route: Any) -> None:
    http.store.fill(b"k", b"1")
    url = NODES[1] if route.path == "/probe" else "http://gone.invalid:8000"
    needed = {"key": "?key=k", "url": f"?url={url}"}
    query = next((needed[name] for name in route.parameters if name in needed), "")
    body = BODIES.get(route.path, b"") if route.method in ("PUT", "POST") else b""
    for method in methods_of(route):
        operation = DOCUMENT["paths"][route.path][method.lower()]
        shown = json.loads(post(http_client, "/plan", b"").body)["hash"]
        path = route.path.replace("{hash}", shown)
        head = f"{method} {path}{query} HTTP/1.1\r\nHost: localhost\r\n"
        length = f"Content-Length: {len(body)}\r\n\r\n"
        answer = http_client.ask(head.encode() + length.encode() + body)
        assert answer.status == STATUSES.get(route.path, 200)
        described(operation, answer)
        refused = get(http_client, f"{route.path}?surprise=1", method=method)
        assert refused.status == 400
        described(operation, refused)


@pytest.mark.parametrize("accept", ["text/plain", "application/json"])
def test_members_come_in_either_form(http_client: Client, accept: str) -> None:
    answer = get(http_client, "/nodes", headers=f"Accept: {accept}\r\n".encode())
    assert answer.headers["content-type"].startswith(accept)
    described(DOCUMENT["paths"]["/nodes"]["get"], answer)


@pytest.mark.parametrize("kind", BY_CODE.values(), ids=lambda kind: kind.code)
def test_every_error_is_a_problem_as_it_says(
    http: Served, http_client: Client, kind: type[QuorateError]
) -> None:
    http.store.failure = kind("a reason", outcome=Outcome.UNKNOWN, needed=2)
    answer = get(http_client, "/kv?key=k", method="DELETE")
    assert answer.status == openapi.statuses()[kind.code] != 200
    described(DOCUMENT["paths"]["/kv"]["delete"], answer)


def test_one_client_too_many_is_told_so_as_it_says() -> None:
    with Served(FakeStore(), connections_max=1) as served, served.client() as first:
        assert get(first, "/healthz").status == 200
        with served.client() as second:
            answer = get(second, "/healthz")
            assert answer.status == 503
            described(DOCUMENT["paths"]["/healthz"]["get"], answer)
            assert json.loads(answer.body)["code"] == "overloaded"


def test_conditions_and_other_refusals_are_as_it_says(http: Served, http_client: Client) -> None:
    http.store.fill(b"k", b"v")
    operation = DOCUMENT["paths"]["/kv"]["get"]
    for headers, status in ((b"If-None-Match: *\r\n", 304), (b'If-Match: "x"\r\n', 412)):
        answer = get(http_client, "/kv?key=k", headers=headers)
        assert answer.status == status
        described(operation, answer)
    large = get(http_client, f"/kv?key=k&x={'x' * FREE_BYTES}")
    assert large.status == 414
    described(operation, large)
