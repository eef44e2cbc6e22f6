# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples of docs/frameworks.md and README.md against a cluster: each in a process of its own,
and then what they have to have done."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from quorate.client import Client
from tests.cluster.processes import Cluster

ROOT: Final = Path(__file__).parents[2]
_BLOCK: Final = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    """The blocks under a heading, and what is tried after they ran."""

    page: str
    heading: str
    package: str
    check: str


EXAMPLES: Final = (
    Example(
        "docs/frameworks.md",
        "## Django",
        "django",
        """
import django
from django.conf import settings

settings.configure(CACHES=CACHES, SESSION_ENGINE=SESSION_ENGINE)
django.setup()
from django.contrib.sessions.backends.cache import SessionStore
from django.core.cache import cache

assert cache.add("n", 1) and not cache.add("n", 2)
assert (cache.incr("n", 5), cache.decr("n"), cache.get_or_set("m", 7)) == (6, 5, 7)
assert cache.touch("n", 60) and not cache.touch("absent")
assert cache.set_many({"a": 1, "b": [2]}) == []
assert cache.get_many(["a", "b", "c"]) == {"a": 1, "b": [2]}
assert cache.delete("a") and cache.delete_many(["b"]) is None and not cache.has_key("b")
session = SessionStore()
session["user"] = 7
session.save()
first = session.session_key
again = SessionStore(session_key=first)
assert again["user"] == 7
again.cycle_key()
assert SessionStore(session_key=first).get("user") is None
assert SessionStore(session_key=again.session_key)["user"] == 7
again.flush()
try:
    cache.clear()
except Exception as refused:
    assert "-allow-flush" in str(refused)
else:
    raise AssertionError("it was emptied")
""",
    ),
    Example(
        "docs/frameworks.md",
        "## cachelib",
        "cachelib",
        """
assert cache.get("page") == {"title": "Hello"} and not cache.add("page", 1)
assert (cache.inc("hits"), cache.dec("hits")) == (2, 1)
assert cache.set("k", 1, timeout=9) and cache.has("k") and cache.delete("k")
assert set(cache.set_many({"a": 1, "b": 2}, timeout=9)) == {"a", "b"}
assert cache.get_many("a", "b", "c") == [1, 2, None]
assert set(cache.delete_many("a", "b")) == {"a", "b"}
""",
    ),
    Example(
        "docs/frameworks.md",
        "## aiocache",
        "aiocache",
        """
import asyncio

async def check():
    assert await hit() == 1
    try:
        await hit()
    except ValueError:
        pass  # It is there.
    else:
        raise AssertionError("it was added twice")
    assert await cache.get("page") == "Hello"
    await cache.multi_set([("a", "1"), ("b", "2")], ttl=60)
    assert await cache.multi_get(["a", "b", "c"]) == ["1", "2", None]
    assert await cache.expire("a", 5) and await cache.delete("b") == 1
    await cache.close()

asyncio.run(check())
""",
    ),
    Example(
        "docs/frameworks.md",
        "## Rate limits",
        "flask_limiter",
        """
client = app.test_client()
assert [client.get("/").status_code for _ in range(4)] == [200, 200, 429, 429]
import limits
storage = QuorateStorage("quorate://localhost:8000")
from limits.strategies import FixedWindowRateLimiter
strategy, limit = FixedWindowRateLimiter(storage), limits.parse("3/minute")
assert [strategy.hit(limit, "me") for _ in range(4)] == [True, True, True, False]
reset, left = strategy.get_window_stats(limit, "me")
assert left == 0 and 0 < reset - time.time() <= 61
strategy.clear(limit, "me")
assert strategy.test(limit, "me") and storage.check()
""",
    ),
    Example(
        "docs/frameworks.md",
        "## py-key-value",
        "key_value",
        """
import asyncio

async def check():
    assert await remember() == {"name": "Ada"}
    async with RedisStore(url="redis://localhost:8000") as store:
        for ttl in (60, None):
            await store.put_many(["a", "b"], [{"n": 1}, {"n": 2}], ttl=ttl)
            assert await store.get_many(["a", "b", "c"]) == [{"n": 1}, {"n": 2}, None]
        assert await store.delete("a") and not await store.delete("a")
        assert await store.keys() == ["b"]

asyncio.run(check())
""",
    ),
    Example(
        "docs/frameworks.md",
        "## Locks",
        "quorate",
        """
token = store.get("job/2").value.decode()
assert token == store.get("job/0").value.decode() == lease.token
assert store.get("jobs") is None and not lease.is_held
import redis
lock = redis.Redis(port=8000).lock("theirs", timeout=60)
assert lock.acquire() and not redis.Redis(port=8000).lock("theirs").acquire(blocking=False)
try:
    lock.release()
except redis.ResponseError as refused:
    assert "EVALSHA" in str(refused)
else:
    raise AssertionError("the page says that this fails")
""",
    ),
    Example(
        "README.md",
        "## Using it",
        "quorate",
        """
assert hits == 1 and store.increment("hits", -3).value == -2
assert store.get("foo").value == b"baz" and store.get("list").value == b"x"
assert len(lease.token) in (28, 44) and not lease.is_held
""",
    ),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("frameworks"), "-durability=os") as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    """Emptied."""
    with Client(shared.urls) as client:
        for key in client.scan():
            client.delete(key)
    return shared


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: each.heading.strip("# "))
def test_the_example_works_as_it_is_shown(cluster: Cluster, example: Example) -> None:
    if importlib.util.find_spec(example.package) is None:
        pytest.skip(f"{example.package} is not installed")
    text = (ROOT / example.page).read_text("utf-8")
    section = text.partition(f"\n{example.heading}\n")[2].partition("\n## ")[0]
    code = "".join(_BLOCK.findall(section)) + example.check
    for port, node in zip((8000, 8001), cluster.nodes, strict=False):
        code = re.sub(rf"\b{port}\b", str(node.port), code)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_each_section_with_an_example_is_tried() -> None:
    text = (ROOT / "docs/frameworks.md").read_text("utf-8")
    sections = re.split(r"^(## .*)$", text, flags=re.MULTILINE)[1:]
    shown = {name for name, body in zip(*[iter(sections)] * 2, strict=True) if _BLOCK.search(body)}
    assert shown == {each.heading for each in EXAMPLES if each.page == "docs/frameworks.md"}
