"""What could be wrong with an installation: one small check for each, reported in one line with one remedy.

A check is a function from its inputs to findings. No check opens an engine or imports a heavy library, except the
check of the index, which comes last.
"""
