"""How Muster's processes are looked at from outside: their logs, metrics and traces. Nothing here decides anything.

It stands at the bottom, beside the spec and the wire, because operator, coordinator and worker are looked at alike.
"""
