"""The stages in order, from a shop's files to a published version and its report.

`workshop` (settings, folder, what is done), then `graph` (load, graph, export), `texts` (tune, encode), `world` (all
that fitting needs), `fitting` (train) and `evaluation` with its `document`; `rebuild` runs them all and publishes.
"""
