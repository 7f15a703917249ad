"""Files to chunks and vectors, and queries to hits. Knows nothing of MCP.

Rooms, bottom to top (imports point only downwards, equal floors never meet):

    types, errors, locator      what the rooms pass to each other
    config                      config.toml to frozen data
    files/  text/  model/  store/
    changes                     walk x manifest: what is new, changed, gone
    worker   search   status    the joiners
    engine                      opens everything, closes everything
"""
