"""Joins the native engine, the ledger and the template source: the decisions of a pool."""
