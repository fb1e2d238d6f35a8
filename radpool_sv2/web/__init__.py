"""Serves HTTP: metrics and status in the shapes that SRI's roles use, and the mint."""

from radpool_sv2.web.mint import MintView
from radpool_sv2.web.server import serve_http
from radpool_sv2.web.view import ChannelView, ClientView, LedgerView, PoolView

__all__ = ["ChannelView", "ClientView", "LedgerView", "MintView", "PoolView", "serve_http"]
