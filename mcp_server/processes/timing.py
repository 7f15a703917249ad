"""Time limits between the processes, in seconds. Standard library only: the relay imports it.

Some depend on others: a process that asks another to end must wait for longer than that one needs.
"""

from __future__ import annotations

ATTACH_S = 10.0
"""From the first attempt to reach the owner to its answer, whatever has to be started in between."""
HANDSHAKE_S = 10.0
"""The owner waits this long for the handshake of a new connection."""
ANSWER_S = 10.0
"""A command waits this long for what the owner answers at once (status, folders)."""

DRAIN_S = 10.0
"""Calls in flight have this long when the owner ends."""
STAND_DOWN_S = DRAIN_S + 2
"""A newer version waits this long for the owner that it asked to end."""
SUCCESSOR_S = ATTACH_S
"""An older version waits this much longer while a newer one, which asked the owner to end, starts the next."""
STOP_S = DRAIN_S + 5
"""`folder-mcp stop` waits this long."""

FIRST_ANSWER_S = 10.0
"""The engine's heavy part waits at most this long until the first answer is written: they share a processor."""
UNSEEN_ANSWER_S = 2.0
"""The same where the first answer is not known, because the SDK has the streams."""

CHECK_OWNER_S = 5.0
"""The doctor waits this long for the owner's answer, ..."""
CHECK_PARSER_S = 30.0
"""... for a parser process to say that it is ready, ..."""
CHECK_DIRECTORIES_S = 5.0
"""... and counts directories for this long: a folder on a slow disk must not hold up the other checks."""
