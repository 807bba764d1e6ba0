"""The report of a run as a folder of pages that open from disk, without a network."""
