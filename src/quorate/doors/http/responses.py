# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers as aiohttp sends them."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from quorate.doors.http.problems import Refused, Reply, problem_reply
from quorate.errors import QuorateError


def respond(reply: Reply) -> web.Response:
    """The response that the fast lane would have rendered."""
    lines = reply.lines.decode().split("\r\n")[:-1]
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    # aiohttp leaves it out of the answer to a HEAD if it is 0.
    headers.append(("Content-Length", str(len(reply.body))))
    return web.Response(status=reply.status, headers=headers, body=reply.body)


def respond_problem(error: QuorateError | Refused) -> web.Response:
    """The response to an error; it closes the connection where the rest cannot be trusted."""
    response = respond(problem_reply(error))
    if isinstance(error, Refused) and error.is_final:
        response.force_close()
    return response


def respond_json(value: Any) -> web.Response:
    """200 with a JSON document."""
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def respond_text(text: str) -> web.Response:
    """200 with plain text."""
    return web.Response(text=text, content_type="text/plain")
