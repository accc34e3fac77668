"""What a store is worth, measured: retrieval, probes, neighbours, and the figures and the page.

Read :mod:`~sleepfm_index.evaluation.retrieval`, :mod:`~sleepfm_index.evaluation.probe` and
:mod:`~sleepfm_index.evaluation.knn` first; the others serve them.
"""
