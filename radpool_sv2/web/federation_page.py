"""Shows an operator in a browser how the pool's member of a federation fares.

The page is plain HTML without scripts, made anew for each request; its policy lets a browser load
nothing else, so that nothing in it can do anything, whatever names members have.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["HEADERS", "federation_page"]

BLOCKS_SHOWN: Final = 20
HASH_SHOWN: Final = 16

STYLE: Final = """
:root { color-scheme: light dark; --line: #c8ccd2; --soft: #595f69; --bad: #b3151b; }
@media (prefers-color-scheme: dark) {
  :root { --line: #41464f; --soft: #a5acb8; --bad: #ff8a85; }
}
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; }
h2 { font-size: 1.1rem; margin: 1.5rem 0 .25rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
div { overflow-x: auto; }
div:focus-visible { outline: 2px solid; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .4rem; border-bottom: 1px solid var(--line); }
:is(th, td):first-child { padding-left: 0; text-align: left; }
th { color: var(--soft); font-weight: normal; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number, td code { white-space: nowrap; }
.bad { color: var(--bad); font-weight: bold; }
code { font-size: .9em; overflow-wrap: anywhere; }
@media (max-width: 30rem) {
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
}
"""

_STYLE_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()

HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""What a browser is to be told beside the page."""


def federation_page(figures: Mapping[str, Any]) -> str:
    """Writes the page.

    Args:
        figures: As `/api/v1/status` has them under `federation`.
    """
    who = f"Member {figures['member']} of {figures['members']}"
    node = figures.get("node")
    parts = [f"<h1>{who} of a federation</h1>"]
    if figures["problem"]:
        parts.append(f'<p class="bad" role="alert">Trouble: {escape(figures["problem"])}</p>')
    parts.append(_facts(figures, node))
    if node is not None:
        parts += [_links(figures, node), _keys(node["keys"])]
    parts.append(_blocks(figures["blocks"]))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{who} · radpool</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _facts(figures: Mapping[str, Any], node: Mapping[str, Any] | None) -> str:
    rows: list[tuple[str, str]] = []
    if node is not None:
        epochs = node["epochs"]
        rows += [
            ("Epochs", f"{epochs['decided']:,} decided, {epochs['certified']:,} certified"),
            ("State root", _code(epochs["root"] or "none yet")),
            ("Chain", f"height {node['height']:,}"),
            ("Waiting", f"{node['waiting_payloads']:,} entries for the own stream"),
        ]
    pays = _code(figures["script"]) if figures["script"] else "nobody: no key is known yet"
    if figures["payout"] == "direct":
        pays = "the members, in each coinbase"
    late = figures["batches_too_late"]
    rows += [
        ("Next batch", f"{max(figures['next_batch'], 0):,}"),
        ("Batches too late", f"{late:,}" if late else ""),
        ("Owners told", f"{figures['registrations']:,}"),
        ("Blocks pay", pays),
        ("Committee", _code(figures["committee"])),
    ]
    shown = (f"<dt>{name}</dt><dd>{text}</dd>" for name, text in rows if text)
    return f"<dl>{''.join(shown)}</dl>"


def _links(figures: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    weights = {member: int(weight) for member, weight in figures["weights"].items()}
    total = sum(weights.values())
    rows = []
    for number in range(figures["members"]):
        member, share = str(number), "-"
        if total:
            share = f"{100 * weights.get(member, 0) / total:.2f} %"
        link, gone = node["links"].get(member), node["gone"].get(member)
        if number == figures["member"]:
            cells = ["this one", "-", "-"]
        elif link is None:
            cells = [_bad("down"), "-", "-"]
        else:
            up, behind = f"up {_duration(link['seconds'])}", f"{link['behind_entries']:,}"
            cells = [up, behind, f"{link['outbox_bytes']:,}"]
        if gone is not None:
            cells[0] += ", " + _bad(f"keeps epochs from {gone:,} on only")
        rows.append([member, *cells, share])
    heads = ("Member", "Link", "Entries behind", "Bytes to send", "Of window")
    return _table("Members", heads, rows, numbers=(2, 3, 4))


def _keys(keys: Mapping[str, Any]) -> str:
    rows = []
    for name in ("checkpoint", "treasury"):
        key = keys.get(name)
        if key is None:
            continue
        if not key["generated"]:
            failure = key["failure"]
            state = _bad(failure) if failure else "is being generated"
            rows.append([name, state, "-", "-", "-"])
            continue
        state = f"{key['threshold']} of {len(key['members'])} sign"
        if not key["has_share"]:
            state += ", but " + _bad("this member has no share of it")
        counts = (key["signatures"], key["open_tasks"], key["unspent_nonces"])
        rows.append([name, state, *(f"{count:,}" for count in counts)])
    stopped = keys.get("stopped", "")
    text = f"<p>{_bad(stopped)}</p>" if stopped else ""
    if not rows:
        return text
    heads = ("Key", "State", "Signatures", "Waiting", "Nonces ready")
    return _table("Keys", heads, rows, numbers=(2, 3, 4)) + text


def _blocks(blocks: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for block in reversed(blocks[-BLOCKS_SHOWN:]):
        name, part = block["hash"], block["own_part_sats"]
        # The first digits are zeros in all of them.
        short = f'<code title="{escape(name)}">…{escape(name[-HASH_SHOWN:])}</code>'
        own = "not yet" if part is None else f"{part:,}"
        mature = "yes" if block["is_mature"] else "not yet"
        rows.append([f"{block['height']:,}", f"{block['value_sats']:,}", own, mature, short])
    if not rows:
        return "<h2>Blocks</h2><p>The books have none.</p>"
    title = "Blocks" if len(blocks) <= BLOCKS_SHOWN else f"The last {BLOCKS_SHOWN} blocks"
    heads = ("Height", "Pays, sat", "Own part, sat", "Mature", "Hash")
    return _table(title, heads, rows, numbers=(0, 1, 2))


def _table(
    title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int]
) -> str:
    """Writes a table that scrolls by itself where it is too wide; cells are HTML."""

    def cell(tag: str, at: int, text: str) -> str:
        name = ' class="number"' if at in numbers else ""
        scope = ' scope="col"' if tag == "th" else ""
        return f"<{tag}{scope}{name}>{text}</{tag}>"

    def row(tag: str, texts: Sequence[str]) -> str:
        return f"<tr>{''.join(cell(tag, at, text) for at, text in enumerate(texts))}</tr>"

    body = "".join(row("td", each) for each in rows)
    label = f'role="region" aria-label="{title}" tabindex="0"'
    return (
        f"<h2>{title}</h2><div {label}><table><thead>{row('th', heads)}</thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _bad(text: str) -> str:
    return f'<span class="bad">{escape(text)}</span>'


def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
