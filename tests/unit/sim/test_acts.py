# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that overlap are undone when the last of them is over."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.values.wish import Wish
from quorate.sim.acts import Acts, Spell
from quorate.sim.changes import wish_for
from quorate.sim.cluster import SimCluster
from quorate.sim.copies import Copies
from quorate.sim.draw import Options, draw
from quorate.sim.machine import Image
from quorate.sim.noise import Noise
from quorate.sim.rest import is_at_rest
from quorate.sim.workload import Clients
from tests.simulation import asking

PLAN = draw(1, Options(nodes=4))


@pytest.fixture
def cluster() -> SimCluster:
    return SimCluster(1, 4, latency_ms=PLAN.latencies_ms[0])


@pytest.fixture
def acts(cluster: SimCluster) -> Acts:
    clients = Clients(cluster, patience_ms=1_000)
    return Acts(cluster, PLAN, Copies(cluster, [], quorum=2, w=2), clients)


def test_a_machine_starts_when_nothing_keeps_it_down(acts: Acts) -> None:
    machine = acts.cluster.machines[0]
    first, second = acts.down([0]), acts.down([0])
    first()
    assert not machine.is_running
    acts.start_all()
    assert not machine.is_running
    second()
    assert machine.is_running


def test_a_lost_disk_is_found_empty_once(acts: Acts, cluster: SimCluster) -> None:
    node_id = cluster.machines[0].settings.node_id
    key = next(b"%d" % n for n in range(99) if 0 in cluster.replicas(b"%d" % n))
    asking.must_put(cluster, 0, key, b"v", w=3)
    up = acts.down([0])
    acts.lose_disk(0)
    assert asking.held(cluster, 0, key) is not None
    up()
    assert asking.held(cluster, 0, key) is None
    assert cluster.machines[0].settings.node_id != node_id
    cluster.run_until(lambda: cluster.machines[0].node.membership.topology)
    assert asking.value(cluster, 0, key, r=2) == b"v", "it asks the others"
    asking.must_put(cluster, 0, key, b"w", w=2)
    cluster.run(100)
    acts.down([0])()
    assert asking.held(cluster, 0, key) is None, "it is no replica any more"
    for other in (1, 2):
        up = acts.down([other])
        acts.lose_disk(other)
        up()
    lost = [bool(machine.lost_disks) for machine in cluster.machines]
    assert lost == [True, False, False, False], "no row loses two at a time"


def test_an_old_disk_is_put_back_once_and_its_loss_is_judged(
    acts: Acts, cluster: SimCluster
) -> None:
    key = next(b"%d" % n for n in range(99) if 0 in cluster.replicas(b"%d" % n))
    acts.copies = Copies(cluster, [key], quorum=2, w=0)
    other = cluster.replicas(key)[1]
    image, older = cluster.machines[0].image(), cluster.machines[other].image()
    asking.must_put(cluster, 0, key, b"v", w=3)
    up = acts.down([0])
    acts.lose_disk(0, image)
    assert asking.held(cluster, 0, key) is not None
    up()
    assert asking.held(cluster, 0, key) is None
    assert not acts.copies.forgot_ms
    up = acts.down([other])
    acts.lose_disk(other, image)
    up()
    assert not acts.copies.forgot_ms, "an image of another disk is none of this"
    up = acts.down([other])
    acts.lose_disk(other, older)
    up()
    assert not acts.copies.forgot_ms, "it may be found out yet"
    cluster.run(100)
    assert key in acts.copies.forgot_ms
    acts.down([0])()
    assert cluster.recorder.faults["old disk"] == 2


@pytest.fixture
def eventual() -> Acts:
    """On three members and another node, where R + W <= N: a disk of which nobody has said yet how
    far it was takes writes, and acknowledges them alone."""
    cluster = SimCluster(1, 4, spares=1, latency_ms=PLAN.latencies_ms[0], w=1, r=1)
    clients = Clients(cluster, patience_ms=1_000)
    acts = Acts(cluster, PLAN, Copies(cluster, [b"all", b"one"], quorum=1, w=1), clients)
    asking.must_put(cluster, 0, b"all", b"v", w=3)
    cluster.run(3_000)
    return acts


def image_before_a_put(acts: Acts) -> Image:
    """An image of the first machine, taken long before a put that all have."""
    image = acts.cluster.machines[0].image()
    acts.cluster.run(10_000)
    asking.must_put(acts.cluster, 0, b"all", b"w", w=3)
    acts.cluster.run(10_000)
    return image


def put_back(acts: Acts, image: Image) -> None:
    """The first machine comes back with an old disk."""
    up = acts.down([0])
    acts.lose_disk(0, image)
    up()


def take_alone(acts: Acts) -> None:
    """The first machine acknowledges a write that it alone has, with a disk that does not count."""
    acts.cluster.run(100)
    asking.must_put(acts.cluster, 0, b"one", b"v")
    assert not acts.cluster.machines[0].node.membership.marks.counts


def test_what_an_old_disk_took_is_lost_with_the_next_old_disk(eventual: Acts) -> None:
    cluster = eventual.cluster
    asking.split(cluster, [0], [1, 2, 3])
    put_back(eventual, cluster.machines[0].image())
    older = cluster.machines[0].image()
    take_alone(eventual)
    put_back(eventual, older)
    assert asking.held(cluster, 0, b"one") is None
    assert not eventual.copies.forgot_ms, "it may be found out yet"
    asking.heal(cluster)
    cluster.run_until(lambda: cluster.machines[0].node.membership.marks.counts)
    assert list(eventual.copies.forgot_ms) == [b"one"]


@pytest.mark.parametrize("is_emptied", [True, False])
def test_what_an_old_disk_took_is_lost_when_it_is_found_out(
    eventual: Acts, is_emptied: bool
) -> None:
    cluster, image = eventual.cluster, image_before_a_put(eventual)
    asking.split(cluster, [0], [1, 2, 3])
    put_back(eventual, image)
    take_alone(eventual)
    if not is_emptied:
        eventual.copies.given_up.add(cluster.machines[1].settings.node_id)
    asking.heal(cluster)
    cluster.run_until(lambda: asking.held(cluster, 0, b"one") is None)
    assert (asking.held(cluster, 0, b"all") is None) is is_emptied
    assert list(eventual.copies.forgot_ms) == [b"one"]


def test_who_was_dead_when_faults_ended_goes_on_with_the_newest_disk(eventual: Acts) -> None:
    """Its disk was found out before, and may not be emptied: with the old one it ends each time."""
    cluster, image = eventual.cluster, image_before_a_put(eventual)
    machine = cluster.machines[0]
    eventual.copies.given_up.add(cluster.machines[1].settings.node_id)
    put_back(eventual, image)
    cluster.run_until(lambda: not machine.is_running)
    up = eventual.down([0])
    eventual.start_all()
    assert list(eventual.copies.lost_ms) == [b"all"]
    up()
    cluster.run_until(lambda: machine.is_running and machine.node.membership.marks.counts)
    assert asking.held(cluster, 0, b"all") == asking.held(cluster, 1, b"all")


def test_what_an_old_disk_took_the_place_of_is_lost_when_it_is_given_up(eventual: Acts) -> None:
    cluster = eventual.cluster
    cluster.observers.append(eventual.copies)
    asking.split(cluster, [0], [1, 2, 3])
    image = cluster.machines[0].image()
    asking.must_put(cluster, 0, b"one", b"v")
    put_back(eventual, image)
    cluster.run(10_000)
    urls = [machine.url for machine in cluster.machines]
    wish_for(eventual, 1, Wish(replace=((urls[0], urls[3]),)))
    cluster.run_until(lambda: 0 not in cluster.replicas(b"one"))
    assert list(eventual.copies.forgot_ms) == [b"one"]


def test_an_old_disk_that_counted_and_is_found_out_then_goes_on_if_it_cannot_be_lost(
    eventual: Acts,
) -> None:
    """As an operator would: the newest was given up when the old one counted."""
    cluster, image = eventual.cluster, image_before_a_put(eventual)
    asking.split(cluster, [0], [1, 2, 3])
    put_back(eventual, image)
    eventual._judge_old(0)
    eventual.copies.given_up.add(cluster.machines[1].settings.node_id)
    asking.heal(cluster)
    cluster.run_until(lambda: not cluster.machines[0].is_running)
    cluster.run_until(lambda: cluster.machines[0].is_running)
    cluster.run(10_000)
    assert cluster.machines[0].node.membership.marks.counts
    up = eventual.down([0])
    eventual.lose_disk(0)
    up()
    assert cluster.machines[0].settings.old_disk == "refuse", "it was for that start"


def test_a_disk_that_was_not_found_out_and_cannot_be_lost_is_judged_as_any_other(
    eventual: Acts,
) -> None:
    cluster = eventual.cluster
    eventual.copies.given_up.add(cluster.machines[1].settings.node_id)
    up = eventual.down([0])
    eventual.lose_disk(0)
    up()
    assert asking.held(cluster, 0, b"all") is not None
    assert cluster.machines[0].settings.old_disk == "refuse"


def test_of_an_old_disk_that_counts_members_are_asked_who_saw_more_of_it(
    acts: Acts, cluster: SimCluster
) -> None:
    acts.plan = msgspec.structs.replace(acts.plan, needs_sync=True)
    machine, member, gone = (cluster.machines[index] for index in (0, 1, 3))
    wish_for(acts, 0, Wish(leave=(gone.url,)))
    cluster.run_until(lambda: is_at_rest(cluster) and len(cluster.layout().members) == 3, 120_000)
    peer = machine.node.membership.roster.by_id[gone.settings.node_id]
    assert peer.is_linked, "it is still met"
    acts._blame(machine, [(gone, gone.life)])
    assert acts.found == []
    acts._blame(machine, [(gone, gone.life), (member, member.life)])
    assert [each.told for each in acts.found] == [
        f"{machine.name} counts, with a disk of which {member.name} saw more"
    ]


def test_a_link_is_whole_when_the_last_cut_is_over(acts: Acts) -> None:
    wire = acts.cluster.wire(0, 1)
    mend_both, mend_one = acts.cut([(0, 1), (1, 2)]), acts.cut([(0, 1)])
    mend_both()
    assert wire.is_cut
    assert not acts.cluster.wire(1, 2).is_cut
    mend_one()
    assert not wire.is_cut


def test_a_pause_is_over_when_the_last_is(acts: Acts) -> None:
    first, second = acts.pause([1]), acts.pause([1])
    first()
    assert acts.cluster.machines[1].is_paused
    second()
    assert not acts.cluster.machines[1].is_paused


def test_a_pause_that_ends_stops_no_process_that_started_since(acts: Acts) -> None:
    first, second = acts.pause([1]), acts.pause([1])
    acts.down([1])()
    first()
    assert acts.cluster.machines[1].is_reading
    second()
    assert acts.cluster.machines[1].is_reading


def test_a_full_disk_stays_full_through_a_restart(acts: Acts) -> None:
    free_one, free_other = acts.flag([2], "is_full"), acts.flag([2], "is_full", "log_breaks")
    up = acts.down([2])
    acts.lose_disk(2)
    up()
    disk = acts.cluster.machines[2].disk
    assert (disk.is_full, disk.log_breaks) == (True, True)
    free_other()
    assert (disk.is_full, disk.log_breaks) == (True, False)
    free_one()
    assert not disk.is_full


def test_a_stalled_engine_takes_batches_when_the_last_stall_is_over(acts: Acts) -> None:
    first, second = acts.flag([2], "is_busy"), acts.flag([2], "is_busy")
    first()
    assert acts.cluster.machines[2].disk.is_busy
    second()
    assert not acts.cluster.machines[2].disk.is_busy


def test_a_transcript_tells_when_something_is_wrong_with_a_machine(acts: Acts) -> None:
    over = acts.flag([2], "is_deaf")
    assert acts.cluster.machines[2].is_deaf
    assert acts.cluster.recorder.faults["deaf"] == 1
    over()
    assert not acts.cluster.machines[2].is_deaf


def test_the_slowest_counts_and_what_was_usual_comes_back(acts: Acts) -> None:
    wire, machine = acts.cluster.wire(0, 1), acts.cluster.machines[0]
    undo_slowest, undo_slow = acts.slow([(0, 1)], 500.0), acts.slow([(0, 1)], 20.0)
    undo_most, undo_least = acts.drag(0, 30.0), acts.drag(0, 5.0)
    assert (wire.latency_ms, machine.sync_ms) == ((500.0,), (30.0, 60.0))
    undo_slowest()
    undo_most()
    assert (wire.latency_ms, machine.sync_ms) == ((20.0,), (5.0, 10.0))
    undo_slow()
    undo_least()
    assert (wire.latency_ms, machine.sync_ms) == (PLAN.latencies_ms[1], PLAN.syncs_ms[0])


def test_noise_adds_up_and_ends(acts: Acts) -> None:
    wire = acts.cluster.wire(0, 1)
    noises = Noise(loss=0.1), Noise(loss=0.3), Noise(late=0.2)
    undo_loss, undo_more, undo_late = (acts.disturb([(0, 1)], noise) for noise in noises)
    assert wire.noise == Noise(loss=0.3, late=0.2)
    undo_more()
    assert wire.noise == Noise(loss=0.1, late=0.2)
    undo_loss()
    undo_late()
    assert wire.noise is None


def test_clocks_are_set_right_whatever_was_done_to_them(acts: Acts) -> None:
    acts.step_clocks([0], 1.5)
    acts.cluster.set_clock_rate(1, 0.5)
    acts.cluster.run(1_000)
    assert abs(acts.cluster.machines[0].clock.error_ms) == pytest.approx(1.5 * acts.clock_ms, abs=2)
    assert abs(acts.cluster.machines[1].clock.error_ms) > 400
    acts.correct_clocks()
    acts.cluster.run(1_000)
    assert max(abs(machine.clock.error_ms) for machine in acts.cluster.machines) < 2


def test_nothing_of_a_spell_comes_when_it_is_over(acts: Acts) -> None:
    spell, made = Spell(acts.cluster.world), list[str]()
    spell.after(1.0, lambda: made.append("before"))
    spell.after(3.0, lambda: made.append("after"))
    acts.cluster.run(2)
    spell.end()
    acts.cluster.run(2)
    assert made == ["before"]


def test_directions_are_named_both_ways(acts: Acts) -> None:
    assert sorted(acts.across([0])) == [(0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (3, 0)]
    assert (0, 1) not in acts.across([0, 1])
    assert (0, 1) in acts.around([0, 1])
    assert (2, 3) not in acts.around([0, 1])
