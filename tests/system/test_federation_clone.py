"""A member's disk twice: an older copy that is put back, and a copy that runs beside the member.

The copy finds out from the others, stops for good, and has signed nothing twice. Only two copies of
one age, to which different members listen, can both speak: then the others have evidence. No nonce
signs two things, in any of the member's lives.
"""

from federation_checker import FederationChecker, Remains
from federation_cluster import Cluster
from federation_net import Proxy, rules_of, wait_until

from radpool_sv2.federation.state.accounting import Accounting

OTHERS = range(3)


def check(cluster, *copies):
    """Checks all members, the last one with its copies."""
    net = cluster.net
    remains = [Remains.read(me, cluster.home(me)) for me in OTHERS]
    remains.append(Remains.read(3, cluster.home(3), *map(cluster.home, copies)))
    checker = FederationChecker(net.committee, Accounting(rules_of(net.committee)))
    found = checker.check(remains, cluster.tip)
    assert found.nonces > 0
    return found


async def keep_working(cluster, count, members=range(4)):
    """Lets epochs pass in which members of the own stream do too."""
    for me in members:
        await cluster.until(me, lambda _: True)
    before = {me: cluster.status(me)["streams"][me]["certified"] for me in members}
    await cluster.epochs(count, members)
    for me, entries in before.items():
        await cluster.until(
            me, lambda status, me=me, entries=entries: status["streams"][me]["certified"] > entries
        )


def has_been_told(status, peers):
    """Says whether these peers, and no others, have told a member what they know of its stream."""
    return status["links"].keys() == peers and status["heard"].get("sync", 0) >= len(peers)


def blamed(cluster, who):
    """Counts what each of the others has against a member."""
    return [cluster.status(me)["streams"][who]["blamed"] for me in OTHERS]


async def test_a_member_whose_disk_is_there_twice_stops_and_signs_nothing_twice(tmp_path):
    async with Cluster(tmp_path / "members") as cluster:
        await cluster.begin()
        await an_old_copy_is_put_back(cluster)
        await a_copy_runs_beside_the_member(cluster)
        statuses = await cluster.finish()
        assert not any(each["halted"] for each in statuses)
        check(cluster, "old", "copy")

        cluster.start(*range(4))
        await keep_working(cluster, 1)
        await two_copies_work_at_once(cluster)


async def an_old_copy_is_put_back(cluster):
    cluster.kill(3)
    cluster.copy(3, "old")
    cluster.start(3)
    await keep_working(cluster, 2)
    cluster.kill(3)

    cluster.start(3, name="old")
    await cluster.until("old", lambda status: "older copy" in status["halted"])
    await keep_working(cluster, 1, OTHERS)
    status = cluster.status("old")
    assert status["keys"]["stopped"]
    assert status["epochs"]["certified"] < cluster.tip
    # It finds out again when it is started again.
    cluster.kill("old")
    cluster.start(3, name="old")
    await cluster.until("old", lambda status: "older copy" in status["halted"])
    cluster.kill("old")

    # With the disk that it had, it is the member again.
    cluster.start(3)
    await keep_working(cluster, 1)
    assert blamed(cluster, 3) == [0, 0, 0]


async def a_copy_runs_beside_the_member(cluster):
    cluster.freeze(3)
    cluster.copy(3, "copy")
    cluster.thaw(3)
    await keep_working(cluster, 1)

    cluster.start(3, name="copy")
    await cluster.until("copy", lambda status: "older copy" in status["halted"])
    # Who has stopped leaves the links to the one that works.
    await cluster.until("copy", lambda status: not status["links"])
    await cluster.until(3, lambda status: len(status["links"]) == 3)
    await keep_working(cluster, 2)
    assert not cluster.status("copy")["links"]
    assert blamed(cluster, 3) == [0, 0, 0]
    cluster.kill("copy")


async def two_copies_work_at_once(cluster):
    """Neither is older, and each reaches other members: so both speak, and that is evidence."""
    rest = cluster.directory / "rest"
    rest.touch()
    await wait_until(cluster.is_at_rest)
    cluster.kill(3)
    cluster.copy(3, "twin")
    for name in (3, "twin"):
        (cluster.home(name) / "rest").touch()
        # Keys would speak as soon as they may, and whoever comes second be told of it.
        (cluster.home(name) / "keyless").touch()
    rest.unlink()
    # One member is reached by both, so that both are told by enough that nothing is missing.
    own, twins = {to: cluster.net.proxies[3, to] for to in OTHERS}, {}
    for to in OTHERS:
        cluster.net.proxies[to, 3].cut()
        twins[to] = Proxy(target=own[to].target)
        await cluster.net.nursery.start(twins[to].run)
    own[2].cut()
    twins[0].cut()
    cluster.start(3, name="twin", ways=twins)
    await cluster.until("twin", lambda status: has_been_told(status, {"1", "2"}))
    twins[1].cut()
    cluster.start(3, ways=own)
    await cluster.until(3, lambda status: has_been_told(status, {"0", "1"}))
    await cluster.until("twin", lambda status: status["links"].keys() == {"2"})

    (cluster.home("twin") / "rest").unlink()
    await cluster.until("twin", lambda status: status["waiting_payloads"])
    assert not cluster.status("twin")["halted"]
    (cluster.home(3) / "rest").unlink()
    await cluster.until("twin", lambda status: "older copy" in status["halted"])
    await wait_until(lambda: blamed(cluster, 3)[2])

    # What one member has seen all are shown, and it convinces them.
    await cluster.epochs(2, OTHERS)
    for me in OTHERS:
        await cluster.until(me, lambda status: status["keys"]["evidence"].get("statements"))
    await wait_until(lambda: len({cluster.status(me)["epochs"]["root"] for me in OTHERS}) == 1)
    assert not any(cluster.status(me)["halted"] for me in OTHERS)
    cluster.kill(*OTHERS, 3, "twin")
    # So may a member with a copy sign a statement twice; but no nonce ever signs two things.
    checker = FederationChecker(cluster.net.committee, None)
    remains = Remains.read(3, cluster.home(3), cluster.home("twin"))
    assert checker.check_nonces(remains) > 0
    assert len(dict(remains.said)) < len(set(remains.said))
