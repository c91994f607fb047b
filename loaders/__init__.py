"""A shop's files, read as columns and checked, become a :class:`~catalograph.loaders.catalogue.Catalogue`."""
