"""The number of threads of FAISS: one setting of the process, lowered for short searches."""

from __future__ import annotations

import pytest

from sleepfm_index.runtime.threads import faiss, one_faiss_thread


def test_a_short_search_has_one_thread_and_gives_the_others_back() -> None:
    before = faiss().omp_get_max_threads()
    try:
        faiss().omp_set_num_threads(3)
        with one_faiss_thread():
            assert faiss().omp_get_max_threads() == 1
        assert faiss().omp_get_max_threads() == 3
        with pytest.raises(RuntimeError), one_faiss_thread():
            raise RuntimeError
        assert faiss().omp_get_max_threads() == 3
    finally:
        faiss().omp_set_num_threads(before)
