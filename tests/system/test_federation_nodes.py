"""Members over real TCP and real disks, with connections that are hurt on the way."""

import pytest
import trio
from federation_net import LinkLimits, Net, is_quiet, wait_until

from radpool_sv2.errors import StoreError


def check(net, epochs):
    """All members have the same cuts, and every share that anyone appended is in them once."""
    expected = sorted(
        b"%d/%d" % (me, each + 1) for me in range(net.n) for each in range(net.acknowledged[me])
    )
    first = None
    for me in range(net.n):
        payloads, cuts = net.counted(me, epochs)
        assert sorted(payloads) == expected
        first = first or cuts
        assert cuts == first


async def rounds(net, count, workers):
    for _ in range(count):
        for me in workers:
            await wait_until(lambda me=me: net.nodes[me].waiting < 10)
            net.work(me, 3)
        net.chain.tip += 1
        await net.settled(net.chain.tip, workers)


async def finish(net):
    """Lets epochs count what was late, until one has counted everybody; stops all then."""
    await wait_until(lambda: all(node.waiting == 0 for node in net.nodes))
    await wait_until(lambda: len({heads(node) for node in net.nodes}) == 1)
    for _ in range(50):
        net.chain.tip += 1
        await net.settled(net.chain.tip)
        # A root may be known to be certified before the own store has all that it stands for.
        await wait_until(lambda: net.nodes[0].applied >= net.chain.tip)
        if len(net.counted(0, net.chain.tip)[1][-1].endings) == net.n:
            break
    await wait_until(lambda: {node.applied for node in net.nodes} == {net.chain.tip})
    roots = {node.root for node in net.nodes}
    for me in range(net.n):
        await net.stop(me)
    assert len(roots) == 1
    check(net, net.chain.tip)


def heads(node):
    return tuple(stream["certified"] for stream in node.status()["streams"])


async def test_a_member_that_is_gone_and_comes_back_counts_the_same(tmp_path):
    async with trio.open_nursery() as nursery:
        net = Net(tmp_path)
        await net.begin(nursery)
        await rounds(net, 3, range(4))
        # Its epochs may have been decided without it: what is in memory only would be lost.
        await wait_until(lambda: is_quiet(net.nodes[2]))
        await net.stop(2)
        await rounds(net, 3, (0, 1, 3))
        await net.start(2)
        await rounds(net, 2, range(4))
        await finish(net)
        net.close()


async def test_slow_stalled_cut_and_damaged_connections_lose_nothing(tmp_path):
    limits = LinkLimits(
        handshake_seconds=5.0, keep_alive_seconds=0.3, silence_seconds=2.0, write_seconds=2.0
    )
    async with trio.open_nursery() as nursery:
        net = Net(tmp_path, link_limits=limits)
        await net.begin(nursery)
        await rounds(net, 1, range(4))
        for proxy in net.proxies.values():
            proxy.delay_s = 0.01
        await rounds(net, 2, range(4))
        stalled = [proxy for pair, proxy in net.proxies.items() if 1 in pair]
        for proxy in stalled:
            proxy.stalled = trio.Event()
        await rounds(net, 2, (0, 2, 3))
        await wait_until(lambda: not net.nodes[1].status()["links"])
        for proxy in stalled:
            event, proxy.stalled = proxy.stalled, None
            event.set()
        for pair, proxy in net.proxies.items():
            if 0 in pair:
                proxy.cut()
        await rounds(net, 2, (1, 2, 3))
        for proxy in net.proxies.values():
            proxy.mend()
            proxy.flips = 1
        await rounds(net, 2, (1, 2, 3))
        # Of the two ways of each pair one is in use, and its bytes are damaged once.
        await wait_until(lambda: sum(proxy.flips for proxy in net.proxies.values()) <= 6)
        await finish(net)
        net.close()


async def test_what_breaks_in_the_middle_leaves_no_port_open(tmp_path):
    net = Net(tmp_path)
    with pytest.raises(ExceptionGroup):
        async with trio.open_nursery() as nursery:
            await net.begin(nursery)
            ports = [proxy.port for proxy in net.proxies.values()]
            ports += [proxy.target for proxy in net.proxies.values()]
            raise ValueError("a test fails")
    for port in ports:
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream("127.0.0.1", port)


async def test_a_member_whose_disk_fails_says_nothing_until_it_works(tmp_path):
    async with trio.open_nursery() as nursery:
        net = Net(tmp_path)
        await net.begin(nursery)
        await rounds(net, 1, range(4))
        # Nothing is left that could be said, or said again on a link that comes up late.
        await wait_until(lambda: is_at_rest(net))
        node, store = net.nodes[1], net.nodes[1]._store
        commit, is_broken = store.commit, True

        def failing(writes):
            if is_broken:
                raise StoreError("the disk is full")
            commit(writes)

        # From here on all that it could sign stands behind something to be remembered.
        store.commit = failing
        said = signed(node)
        await rounds(net, 2, (0, 2, 3))
        await wait_until(lambda: node.status()["store_failure"])
        assert node.status()["store_failure"] == "the disk is full"
        assert signed(node) == said
        is_broken = False
        await wait_until(lambda: not node.status()["store_failure"])
        await finish(net)
        net.close()


def is_at_rest(net):
    """Says whether all members are linked and know the same, and none has more to say."""
    return (
        all(len(node.status()["links"]) == net.n - 1 and is_quiet(node) for node in net.nodes)
        and len({heads(node) for node in net.nodes}) == 1
    )


def signed(node):
    """What a member has sent of what it signs."""
    names = ("sententry", "echo", "propose", "vote", "stateroot")
    return [node.status()["sent"].get(name, 0) for name in names]
