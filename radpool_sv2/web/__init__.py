"""Serves metrics and a read-only JSON API over HTTP, in the shapes that SRI's roles use."""

from radpool_sv2.web.server import serve_http
from radpool_sv2.web.view import ChannelView, ClientView, LedgerView, PoolView

__all__ = ["ChannelView", "ClientView", "LedgerView", "PoolView", "serve_http"]
