"""Named Cypher queries for analysts; each file's header names its title, parameters and columns."""
