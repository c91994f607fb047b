"""The stages in order, from a shop's files to a published version and its report.

A workshop is opened; its graph is stored and exported, its texts are encoded, and the world they make is fitted and
evaluated. A rebuild is all of it.
"""
