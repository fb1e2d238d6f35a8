"""Describes the section `declarator` of `msp.toml`: miners who make their own templates."""
# ruff: noqa: RUF009 - the functions return dataclass fields, which the rule cannot see.

from __future__ import annotations

from dataclasses import dataclass

from radpool_sv2.config.limit import HOUR_MS, MINUTE_MS
from radpool_sv2.config.setting import Endpoint, endpoint, flag, integer


@dataclass(frozen=True, kw_only=True, slots=True)
class DeclaratorSection:
    """The job declarator: miners choose the transactions, the pool judges their templates."""

    enabled: bool = flag(
        False,
        about="Whether miners may declare templates of their own. Each is judged by all rules of "
        "consensus before its shares count.",
        why="`radpool init msp` enables it.",
    )
    listen: Endpoint = endpoint(
        "0.0.0.0:3334",
        about="Address of the job declarator's listener.",
        why="Every interface, on the port beside that of the pool.",
    )
    coinbase_only: bool = flag(
        True,
        about="Whether miners may keep their transactions to themselves. Such jobs earn nothing "
        "above the reference, one in 64 must be revealed afterwards, and ecash is not to be had "
        "for them.",
        why="Privacy is a reason to choose one's own transactions.",
    )
    reveal_deadline_ms: int = integer(
        10 * MINUTE_MS,
        1_000,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="How long a miner has to reveal a hidden template that the lot fell on; then its "
        "shares earn nothing, and its owner may hide nothing for a day. Less than the default on "
        "regtest alone.",
        why="Ten minutes are what miners are promised (page 10 of the specification).",
    )
    connections_max: int = integer(
        1_000,
        1,
        100_000,
        unit="connections",
        about="Connections of declaring miners in all; further ones are closed at once.",
        why="One for each farm; a connection costs some 20 KiB.",
    )
    connections_per_address_max: int = integer(
        16,
        1,
        100_000,
        unit="connections",
        about="Connections of one IP address (IPv6: one /64).",
        why="A farm has one or two behind its address.",
    )
    tokens_per_minute_max: int = integer(
        60,
        1,
        6_000,
        unit="tokens a minute",
        about="Tokens that one connection gets in the long run; further requests wait.",
        why="A token pays for one template, and more than one a second is of no use to a miner.",
    )
    declarations_per_minute_max: int = integer(
        60,
        1,
        6_000,
        unit="declarations a minute",
        about="Templates that one connection may declare in the long run; more are refused.",
        why="As many as tokens.",
    )
    declarations_pending_max: int = integer(
        4,
        1,
        64,
        unit="declarations",
        about="Templates of one connection that are under way at the same time; more are refused.",
        why="A new block and a better template may come while one is being judged.",
    )
    bytes_per_second_max: int = integer(
        1_000_000,
        10_000,
        1 << 30,
        unit="bytes a second",
        about="What is read from one connection in the long run; eight seconds' worth at once.",
        why="A whole block of transactions that nobody knows every four seconds.",
    )
    provide_deadline_ms: int = integer(
        20_000,
        100,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="How long a miner may take to send the transactions that were asked for, or the rest "
        "of any message; then the connection is closed.",
        why="Four megabytes on a slow line.",
    )
    idle_deadline_ms: int = integer(
        30 * MINUTE_MS,
        1_000,
        24 * HOUR_MS,
        unit="milliseconds",
        about="How long a connection may stay without sending anything.",
        why="A miner declares a template with each block at least.",
    )
    token_lifetime_ms: int = integer(
        30 * MINUTE_MS,
        10_000,
        24 * HOUR_MS,
        unit="milliseconds",
        about="How long an unused token is good.",
        why="Miners ask for tokens ahead of the templates that they are for.",
    )
    cache_bytes_max: int = integer(
        256 << 20,
        1 << 20,
        1 << 36,
        unit="bytes",
        about="Transactions that are remembered, so that a template which differs little from the "
        "one before costs little.",
        why="A full mempool's worth; those of templates in use are held besides.",
    )
