"""Evaluation: retrieval, probes, neighbours, and the figures and the report.

Read :mod:`~sleepfm_index.evaluation.retrieval.retrieval`,
:mod:`~sleepfm_index.evaluation.models.probe` and :mod:`~sleepfm_index.evaluation.models.knn` first;
the other modules support them.
"""
