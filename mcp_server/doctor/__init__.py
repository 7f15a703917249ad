"""What could be wrong with an installation: one small check for each, told in one line with one remedy.

A check is a function from what it needs to findings; nothing here opens an engine or imports a heavy library, except
the check of the index, which comes last.
"""
