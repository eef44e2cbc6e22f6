# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of a node share during a step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quorate.core.turn import _NOTED_MAX, NOTE_AGAIN_MS, Alarm, Turn
from quorate.core.values.versions import ABSENT, pack_version, successor


def _turn(mono_ms: int = 0) -> Turn:
    turn = Turn()
    turn.begin(mono_ms, 7, stamp_max=9)
    return turn


def test_a_step_begins_with_nothing_said_and_the_time_as_given() -> None:
    turn = _turn()
    turn.note("info", "x")
    turn.begin(5, 8, stamp_max=9)
    assert (turn.mono_ms, turn.wall_ms, turn.answers, turn.notes) == (5, 8, [], [])
    assert not turn.is_ahead(pack_version(9, 77))
    assert turn.is_ahead(pack_version(10, 0))


def test_a_version_is_ahead_by_its_stamp_or_by_when_it_was_made() -> None:
    turn, base = _turn(), pack_version(3, 77)
    assert [turn.is_ahead(successor(base, stamp)) for stamp in (4, 9, 10)] == [False, False, True]
    assert turn.is_ahead(successor(pack_version(10, 0), 4))
    assert not turn.is_ahead(ABSENT)


class Rung:
    """Alarms by name, and which of them rang when."""

    def __init__(self) -> None:
        self.turn = _turn()
        self.calls: list[tuple[str, int]] = []
        self.alarms = {name: self._alarm(name) for name in "abc"}

    def _alarm(self, name: str) -> Alarm:
        return Alarm(self.turn, lambda: self.calls.append((name, self.turn.mono_ms)))

    def step(self, mono_ms: int) -> list[str]:
        """The names of those that ring in a step."""
        self.calls.clear()
        self.turn.begin(mono_ms, 0, stamp_max=0)
        self.turn.ring()
        return [name for name, _ in self.calls]


def test_alarms_ring_in_order_of_time_then_of_entry() -> None:
    rung = Rung()
    for name, mono_ms in (("a", 30), ("b", 10), ("c", 10)):
        rung.alarms[name].at(mono_ms)
    assert rung.turn.wake_ms() == 10
    assert rung.step(9) == []
    assert rung.step(40) == ["b", "c", "a"]
    assert rung.turn.wake_ms() is None


def test_an_alarm_rings_at_the_earliest_time_it_was_set_to_and_once() -> None:
    rung = Rung()
    for mono_ms in (30, 10, 20):
        rung.alarms["a"].at(mono_ms)
    assert rung.turn.wake_ms() == 10
    assert rung.step(15) == ["a"]
    assert rung.turn.wake_ms() is None, "times that were moved are void"
    rung.alarms["a"].at(30)
    assert rung.step(30) == ["a"]
    assert rung.step(31) == []


def test_what_an_alarm_sets_for_now_rings_in_the_next_step_which_is_asked_for_at_once() -> None:
    turn = _turn()
    rang: list[int] = []

    def again() -> None:
        rang.append(turn.mono_ms)
        alarm.soon()

    alarm = Alarm(turn, again)
    alarm.soon()
    turn.ring()
    assert rang == [0]
    assert turn.wake_ms() == 0
    turn.ring()
    assert rang == [0, 0]


class _Model:
    """What alarms do, as slow and obvious as can be."""

    def __init__(self) -> None:
        self.due: dict[str, tuple[int, int]] = {}
        self.entered = 0

    def at(self, name: str, mono_ms: int) -> None:
        if name not in self.due or mono_ms < self.due[name][0]:
            self.entered += 1
            self.due[name] = mono_ms, self.entered

    def step(self, mono_ms: int) -> list[str]:
        rung = sorted((due, name) for name, due in self.due.items() if due[0] <= mono_ms)
        for _, name in rung:
            del self.due[name]
        return [name for _, name in rung]


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", "step"]), st.integers(0, 20)),
        max_size=60,
    )
)
def test_the_heap_rings_as_its_model_does(actions: list[tuple[str, int]]) -> None:
    rung, model = Rung(), _Model()
    now = 0
    for name, ms in actions:
        if name == "step":
            now += ms
            assert rung.step(now) == model.step(now)
        else:
            rung.alarms[name].at(now + ms)
            model.at(name, now + ms)
        assert rung.turn.wake_ms() == min((due for due, _ in model.due.values()), default=None)


def test_what_happens_with_every_message_of_a_peer_is_noted_once_in_a_while() -> None:
    """A log that a peer can fill is a way to stop a node."""
    noted = 0
    turn = Turn()
    for mono_ms in range(0, 3 * NOTE_AGAIN_MS, 100):
        turn.begin(mono_ms, 0, stamp_max=0)
        turn.note_rarely("warning", "refused", peer="http://n1:1", reason="no")
        turn.note_rarely("warning", "refused", peer="http://n2:1", reason="no")
        noted += len(turn.notes)
    assert noted == 2 * 3


def test_what_was_noted_of_peers_is_remembered_of_so_many_and_not_of_more() -> None:
    """P7: a peer may have many names."""
    turn = _turn()

    def is_noted(number: int) -> bool:
        before = len(turn.notes)
        turn.note_rarely("warning", "refused", peer=f"http://n{number}:1")
        return len(turn.notes) > before

    assert all(is_noted(number) for number in range(_NOTED_MAX))
    assert not any(is_noted(number) for number in (0, _NOTED_MAX - 1))
    assert is_noted(_NOTED_MAX)
    assert is_noted(0), "all were forgotten"
    assert not is_noted(_NOTED_MAX)


def test_what_no_peer_is_to_blame_for_is_noted_without_one() -> None:
    turn = _turn()
    turn.note_rarely("error", "copy_damaged", reason="no")
    turn.note_rarely("error", "copy_damaged", peer="http://n1:1", reason="no")
    assert [note.facts for note in turn.notes] == [
        {"reason": "no"},
        {"peer": "http://n1:1", "reason": "no"},
    ]
