"""The commands of ``folder-mcp``.

``arguments.py`` defines what can be typed, ``main.py`` runs the chosen command: only its module is imported.
"""
