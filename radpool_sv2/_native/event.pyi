"""Says what the engine's clients ask for and do: one class for each event.

`Engine.drain` gives them, in order for each connection. `radpool_sv2._native.engine` has them, too.
"""

from typing import TypeAlias, final

@final
class SetUp:
    """Says that a client is set up. Its texts are its own bytes: any content, at most 255 each."""

    @property
    def connection(self) -> int: ...
    @property
    def address(self) -> str: ...
    @property
    def flags(self) -> int: ...
    @property
    def vendor(self) -> bytes: ...
    @property
    def hardware_version(self) -> bytes: ...
    @property
    def firmware(self) -> bytes: ...
    @property
    def device_id(self) -> bytes: ...

@final
class ExtensionsNegotiated:
    """Says which extensions a client may use from now on."""

    @property
    def connection(self) -> int: ...
    @property
    def extensions(self) -> list[int]: ...

@final
class ChannelRequested:
    """Asks for `Engine.open_channel` or `Engine.refuse_channel`; the client waits."""

    @property
    def connection(self) -> int: ...
    @property
    def request(self) -> int:
        """The engine's number for the request, unique on the connection."""

    @property
    def kind(self) -> str:
        """`standard` or `extended`."""

    @property
    def user_identity(self) -> bytes: ...
    @property
    def nominal_hash_rate(self) -> float:
        """Hashes a second as the client claims; finite and not negative."""

    @property
    def max_target(self) -> bytes:
        """The largest target that the client accepts, 32 bytes, least significant first."""

    @property
    def min_extranonce_size(self) -> int: ...
    @property
    def extension_type(self) -> int:
        """The extension by whose message the client asks; 0 for a core message."""

    @property
    def msg_type(self) -> int:
        """The number of that message."""

    @property
    def tail(self) -> bytes:
        """What follows the core fields in a message of an extension; empty for a core message."""

@final
class ChannelOpened:
    """Says that a channel is open: the last word on a request that the pool granted."""

    @property
    def connection(self) -> int: ...
    @property
    def request(self) -> int: ...
    @property
    def channel(self) -> int: ...
    @property
    def group(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def exponent(self) -> int: ...
    @property
    def extranonce_prefix(self) -> bytes: ...
    @property
    def rollable(self) -> int: ...
    @property
    def extension_type(self) -> int:
        """The extension that opened it; 0 for a core message."""

@final
class ChannelFailed:
    """Says that a request could not be granted although the pool wanted to."""

    @property
    def connection(self) -> int: ...
    @property
    def request(self) -> int: ...
    @property
    def code(self) -> str: ...

@final
class ChannelUpdated:
    """Says that a client declared another hash rate or largest target."""

    @property
    def connection(self) -> int: ...
    @property
    def channel(self) -> int: ...
    @property
    def nominal_hash_rate(self) -> float: ...
    @property
    def max_target(self) -> bytes: ...

@final
class ExponentChanged:
    """Says that a channel moved on the target ladder."""

    @property
    def connection(self) -> int: ...
    @property
    def channel(self) -> int: ...
    @property
    def exponent(self) -> int: ...

@final
class ExponentWanted:
    """Says at which exponent a channel that selects its work should mine from now on.

    The next owner tag that its owner is given should have it. The channel's target follows when a
    custom job with that tag is accepted.
    """

    @property
    def connection(self) -> int: ...
    @property
    def channel(self) -> int: ...
    @property
    def exponent(self) -> int: ...

@final
class CustomJobRequested:
    """Asks for `Engine.accept_custom_job` or `Engine.refuse_custom_job`; the client waits.

    The engine has checked the form: the channel is an extended one, the outputs are as many as they
    say, the path has at most 32 siblings, the input's script at most 100 bytes, nBits is a target.
    What it means is for the pool to judge: token, tip, version, times, outputs, path.
    """

    @property
    def connection(self) -> int: ...
    @property
    def channel(self) -> int: ...
    @property
    def request(self) -> int:
        """The engine's number for the request, unique on the connection."""

    @property
    def token(self) -> bytes: ...
    @property
    def version(self) -> int: ...
    @property
    def prev_hash(self) -> bytes:
        """Hash of the block that the job builds on, 32 bytes, internal order."""

    @property
    def min_ntime(self) -> int: ...
    @property
    def nbits(self) -> int: ...
    @property
    def coinbase_tx_version(self) -> int: ...
    @property
    def coinbase_prefix(self) -> bytes:
        """The input's script in front of the extranonce."""

    @property
    def coinbase_sequence(self) -> int: ...
    @property
    def coinbase_tx_outputs(self) -> bytes:
        """All outputs, serialised, without their count."""

    @property
    def output_count(self) -> int: ...
    @property
    def coinbase_locktime(self) -> int: ...
    @property
    def merkle_path(self) -> list[bytes]:
        """Siblings of the coinbase from the leaves up, 32 bytes each, internal order."""

    @property
    def exponent(self) -> int:
        """The channel's exponent at the moment."""

    @property
    def extranonce_len(self) -> int:
        """Length of the channel's whole extranonce, which follows `coinbase_prefix`."""

@final
class CustomJobFailed:
    """Says that a custom job which the pool accepted could not be set; the client was told.

    The code is `stale-chain-tip` when the tip moved meanwhile, `invalid-coinbase-tx-outputs` when
    the outputs do not have exactly one owner output, that of the owner and exponent given,
    `invalid-coinbase-prefix` when the input's script does not begin with the height given, and
    `invalid-nbits` when the target given is easier than nBits.
    """

    @property
    def connection(self) -> int: ...
    @property
    def channel(self) -> int: ...
    @property
    def request(self) -> int: ...
    @property
    def code(self) -> str: ...

@final
class ChannelReport:
    """Says what a channel has delivered since it was opened."""

    @property
    def connection(self) -> int: ...
    @property
    def channel(self) -> int: ...
    @property
    def accepted(self) -> int: ...
    @property
    def work(self) -> int:
        """Sum of the work of accepted shares in hashes, exact."""

    @property
    def rejected(self) -> dict[str, int]:
        """Shares refused by error code; codes that never occurred are left out."""

    @property
    def exponent(self) -> int: ...

@final
class WorkerNamed:
    """Says which name later shares mean by a worker number of the connection."""

    @property
    def connection(self) -> int: ...
    @property
    def channel(self) -> int: ...
    @property
    def worker(self) -> int: ...
    @property
    def name(self) -> bytes: ...

@final
class ExtensionFrame:
    """Is a frame of a negotiated extension, as it came."""

    @property
    def connection(self) -> int: ...
    @property
    def extension_type(self) -> int: ...
    @property
    def msg_type(self) -> int: ...
    @property
    def channel_msg(self) -> bool: ...
    @property
    def payload(self) -> bytes: ...

@final
class RepeatedShare:
    """Is a valid share that was submitted before and now brings something for an extension.

    It is counted already and must not be again. The extension answers the client, by messages of
    its own or `Engine.reject_repeated`, once everything that was drained up to here is durable.
    """

    @property
    def connection(self) -> int: ...
    @property
    def channel(self) -> int: ...
    @property
    def sequence(self) -> int:
        """The sequence number of the repeat."""

    @property
    def extension_type(self) -> int: ...
    @property
    def msg_type(self) -> int:
        """The message that it came by; 0x1b for TLVs behind SubmitSharesExtended."""

    @property
    def hash(self) -> bytes:
        """The header's hash, 32 bytes, internal order."""

    @property
    def exponent(self) -> int: ...
    @property
    def account(self) -> int: ...
    @property
    def epoch(self) -> int:
        """The epoch of the job's tag."""

    @property
    def height(self) -> int:
        """The height of the job's block."""

    @property
    def tlvs(self) -> bool:
        """Whether it came as SubmitSharesExtended, which has core answers."""

    @property
    def data(self) -> bytes:
        """The extension's own TLVs, or what followed the share's fields in its message.

        Where TLVs of several extensions were negotiated, the first of them decides whose it is.
        """

@final
class ChannelClosed:
    """Says that a channel is gone; its last report came before."""

    @property
    def connection(self) -> int: ...
    @property
    def channel(self) -> int: ...
    @property
    def by_client(self) -> bool: ...
    @property
    def reason(self) -> bytes: ...

@final
class Disconnected:
    """Says that a connection which had been set up is gone, and its channels with it."""

    @property
    def connection(self) -> int: ...
    @property
    def reason(self) -> str:
        """A word such as `peer-closed`, `slow-reader` or `frame-timeout`."""

@final
class BlockFound:
    """Says that a share solved its block; it is on disk and on its way to the template source."""

    @property
    def template_id(self) -> int: ...
    @property
    def connection(self) -> int: ...
    @property
    def channel(self) -> int: ...
    @property
    def account(self) -> int: ...
    @property
    def header(self) -> bytes:
        """The 80 bytes of the header."""

    @property
    def coinbase_tx(self) -> bytes:
        """The coinbase as it stands in the block, with its witness if the block commits to any."""

    @property
    def version(self) -> int: ...
    @property
    def ntime(self) -> int: ...
    @property
    def nonce(self) -> int: ...
    @property
    def extranonce(self) -> bytes:
        """The extranonce behind the template's `extranonce_head`."""

    @property
    def hash(self) -> bytes:
        """The block's hash, 32 bytes, internal order."""

@final
class PrefixesLow:
    """Asks for `Engine.add_prefixes`: without prefixes no channel can be opened."""

    @property
    def remaining(self) -> int: ...

@final
class Sv1TurnedAway:
    """Says that devices which speak Stratum V1 have called and were turned away, once a minute."""

    @property
    def address(self) -> str:
        """Where one of them is."""

    @property
    def total(self) -> int:
        """How many calls there were since the engine started."""

@final
class EngineFailed:
    """Says that a part of the engine cannot do its work and what the operator can do about it."""

    @property
    def message(self) -> str: ...

Event: TypeAlias = (
    SetUp
    | ExtensionsNegotiated
    | ChannelRequested
    | ChannelOpened
    | ChannelFailed
    | ChannelUpdated
    | ExponentChanged
    | ExponentWanted
    | CustomJobRequested
    | CustomJobFailed
    | ChannelReport
    | WorkerNamed
    | ExtensionFrame
    | RepeatedShare
    | ChannelClosed
    | Disconnected
    | BlockFound
    | PrefixesLow
    | Sv1TurnedAway
    | EngineFailed
)
