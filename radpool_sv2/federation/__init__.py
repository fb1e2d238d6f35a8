"""Lets Mining Service Providers that do not trust each other keep one set of books.

Members append what they have to say to streams of their own. Reliable broadcast makes every stream
the same at every member; one small agreement per epoch says which parts of the streams count in it;
a function of those parts alone is the state that members certify, and nothing else is ever signed.

Everything here is a machine without IO: it is given events and the time, and returns effects. The
driver keeps their order, and holds back whatever stands behind a `Persist` until it is durable.
"""
