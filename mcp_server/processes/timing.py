"""How long the processes wait for each other. Seconds; standard library only, for the relay imports it.

Some depend on others: who asks a process to end must wait for longer than that process takes.
"""

from __future__ import annotations

ATTACH_S = 10.0
"""From the first attempt to reach the owner to its answer, whatever has to be started in between."""
HANDSHAKE_S = 10.0
"""The owner waits so long for the first line of a new connection."""
ANSWER_S = 10.0
"""A command waits so long for what the owner answers at once (status, folders)."""

DRAIN_S = 10.0
"""Calls in flight get so long when the owner ends."""
STAND_DOWN_S = DRAIN_S + 2
"""A newer version waits so long for the owner that it asked to end."""
SUCCESSOR_S = 3.0
"""After that the version that asked goes first for so long."""
STOP_S = DRAIN_S + 5
"""`folder-mcp stop` waits so long."""

FIRST_ANSWER_S = 10.0
"""The engine's heavy part waits at most so long for the first answer to be written: they share a processor."""
UNSEEN_ANSWER_S = 2.0
"""The same where nobody tells us of the first answer, because the SDK owns the streams."""

CHECK_OWNER_S = 5.0
"""The doctor waits so long for the owner's answer, ..."""
CHECK_PARSER_S = 30.0
"""... for a parser process to say that it is ready, ..."""
CHECK_DIRECTORIES_S = 5.0
"""... and counts directories for so long: a folder on a slow disk must not hold up the other checks."""
