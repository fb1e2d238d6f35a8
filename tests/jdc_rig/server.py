"""A pool and its declarator on loopback, each a script over encrypted streams."""

import trio

from radpool_sv2._native.keys import AuthoritySecretKey, ServerIdentity, StaticKey
from radpool_sv2.config import Endpoint
from radpool_sv2.config.jdc import PoolSection
from radpool_sv2.errors import ConnectionEnded
from radpool_sv2.jdc.link import PoolPlace
from radpool_sv2.keyfile import sign_certificate
from radpool_sv2.wire.setup import take_setup
from radpool_sv2.wire.stream import Sv2Stream

ALL_FLAGS = 0xFFFF_FFFF


class Server:
    """Serves one protocol; `script` is called with each connection that is set up."""

    def __init__(self, protocol, script, *, server_flags=0, allowed=ALL_FLAGS):
        self.authority = AuthoritySecretKey.generate()
        static_key = StaticKey.generate()
        certificate = sign_certificate(self.authority, static_key, 1)
        self.identity = ServerIdentity(static_key, certificate)
        self.protocol = protocol
        self.script = script
        self.server_flags = server_flags
        self.allowed = allowed
        self.setups = []
        self.endpoint = None

    @property
    def key(self):
        return self.authority.public_key().to_text()

    async def serve(self, *, task_status):
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.endpoint = Endpoint(*listener.socket.getsockname()[:2])
        async with listener, trio.open_nursery() as nursery:
            task_status.started()
            while True:
                nursery.start_soon(self._converse, await listener.accept())

    async def _converse(self, raw):
        try:
            stream = await Sv2Stream.accept(raw, self.identity, 60, frame_bytes_max=1 << 24)
            setup = await take_setup(
                stream,
                self.protocol,
                allowed_flags=self.allowed,
                server_flags=self.server_flags,
            )
            self.setups.append(setup)
            await self.script(stream)
        except Exception as error:
            if not isinstance(error, (ConnectionEnded, trio.BrokenResourceError)):
                self.setups.append(error)
        finally:
            await trio.aclose_forcefully(raw)


def place_of(pool, declarator, **keys):
    section = PoolSection(
        address=pool.endpoint,
        authority_public_key=pool.key,
        declarator=declarator.endpoint,
        declarator_public_key=declarator.key,
        user="alice.rig",
        **keys,
    )
    return PoolPlace(section)
