# SPDX-License-Identifier: GPL-3.0-or-later
"""quorate token: join tokens for new nodes, made by a running one; and users' (`user_tokens`)."""

from __future__ import annotations

import json

from quorate.cli.arguments import Given, UsageError
from quorate.cli.connect import client_of, timeout_seconds, whole_number
from quorate.cli.output import print_json
from quorate.cli.user_tokens import issue_token
from quorate.client.calls import Call, read_json


def run_token(given: Given) -> int:
    """Print a token of either kind. UsageError."""
    if given["act"] == "issue":
        return issue_token(given)
    if given["act"] != "new":
        raise UsageError(f"token: {given['act']!r} is neither new nor issue")
    body: dict[str, object] = {"ttl": given["ttl"]}
    uses = whole_number(given, "uses", low=1)
    if uses is not None:
        body["uses"] = uses
    # No write: nothing of a token is kept, and one that does not arrive is one that nobody has.
    call = Call("POST", "/join/token", json.dumps(body).encode())
    with client_of(given) as client:
        made = read_json(client.request(call, timeout=timeout_seconds(given)))
    if "json" in given:
        print_json(made)
    else:
        print(made["token"])
    return 0
