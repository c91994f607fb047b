"""The knowledge graph: one store protocol, its implementations, analysts' queries, and the export to PyG."""
