"""Simulated cross-modal embeddings, drawn night by night from a seed.

    python benchmarks/embeddings.py --rows 20000        properties of the drawn vectors
    python benchmarks/embeddings.py --store S           the same properties of a store's vectors

Each clip has a latent state that all modalities share. It is the sum of the subject's mean, a state
that drifts slowly through the night, and a part of this clip alone. Few directions of the state are
large and many are small, as in the spectra of real embeddings, so clips of different people can be
alike. Each modality maps the state to 512 dimensions by a map that it partly shares with the
others, adds an offset (the modality gap of contrastive encoders) and noise, and scales the result
to unit length. Any night can be drawn without those before it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DIM = 512
LATENT = 256
NIGHT = 960
"""Clips of a night of 8 h."""
MODALITIES = ("bas", "ecg", "resp")

SUBJECT, DRIFT, CLIP = 0.5, 0.6, 0.62
"""Weights of the three parts of the state; their squares add up to one."""
MEMORY = 0.97
"""Correlation of the drifting state between one clip and the next: some 15 minutes."""
DECAY = 1.5
"""The n-th direction of the state has a variance of n to the power of minus this."""
OFFSET, SHARED, NOISE = 0.7, 0.95, 0.5
"""Length of a modality's offset; correlation of its map with the common one; length of its noise,
where the state's has length one."""


@dataclass(frozen=True)
class Embeddings:
    """Drawn unit vectors of a cohort.

    Parameters
    ----------
    seed : int
    nights_a_subject : int
        Nights follow each other by subject.
    """

    seed: int = 0
    nights_a_subject: int = 1

    def night(
        self, number: int, modalities: tuple[str, ...] = MODALITIES, clips: int = NIGHT
    ) -> dict[str, NDArray[np.float16]]:
        """Draw one night: float16 [clips, 512] per modality."""
        subject = np.random.default_rng((self.seed, 1, number // self.nights_a_subject))
        who = subject.standard_normal(LATENT, np.float32)
        rng = np.random.default_rng((self.seed, 2, number))
        steps = rng.standard_normal((clips, LATENT), np.float32)
        drift = np.empty_like(steps)
        drift[0] = steps[0]
        for at in range(1, clips):
            drift[at] = MEMORY * drift[at - 1] + np.sqrt(1 - MEMORY**2) * steps[at]
        own = rng.standard_normal((clips, LATENT), np.float32)
        state = (SUBJECT * who + DRIFT * drift + CLIP * own) * _spectrum()
        drawn = {}
        for modality in modalities:
            noise = np.random.default_rng((self.seed, 3, number, MODALITIES.index(modality)))
            x = state @ _maps(self.seed)[modality] + _offsets(self.seed)[modality]
            x += NOISE / np.sqrt(DIM) * noise.standard_normal((clips, DIM), np.float32)
            drawn[modality] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)
        return drawn

    def blocks(self, rows: int, modality: str, nights: int = 100) -> Iterator[NDArray[np.float16]]:
        """Yield ``rows`` clips of one modality, several nights at a time."""
        for start in range(0, rows, nights * NIGHT):
            parts = [
                self.night(at // NIGHT, (modality,))[modality][: rows - at]
                for at in range(start, min(rows, start + nights * NIGHT), NIGHT)
            ]
            yield np.concatenate(parts)

    def rows(self, rows: int, modality: str) -> NDArray[np.float16]:
        """Draw ``rows`` clips of one modality at once, float16 [rows, 512]."""
        return np.concatenate(list(self.blocks(rows, modality)))

    def clips(self, ids: NDArray[np.int64], modality: str) -> NDArray[np.float16]:
        """Draw clips by their numbers; each night is drawn once."""
        found = np.empty((len(ids), DIM), np.float16)
        for number in np.unique(ids // NIGHT):
            chosen = ids // NIGHT == number
            night = self.night(int(number), (modality,))[modality]
            found[chosen] = night[ids[chosen] % NIGHT]
        return found


def _spectrum() -> NDArray[np.float32]:
    """Return the standard deviation of each direction of the state; expected norm 1."""
    variance = np.arange(1, LATENT + 1) ** -DECAY
    return np.sqrt(variance / variance.sum()).astype(np.float32)


_CACHE: dict[int, tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]] = {}


def _drawn(
    seed: int,
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    if seed not in _CACHE:
        rng = np.random.default_rng((seed, 0))
        common = rng.standard_normal((LATENT, DIM), np.float32) / np.sqrt(DIM)
        maps, offsets = {}, {}
        for modality in MODALITIES:
            own = rng.standard_normal((LATENT, DIM), np.float32) / np.sqrt(DIM)
            maps[modality] = (SHARED * common + np.sqrt(1 - SHARED**2) * own).astype(np.float32)
            offset = rng.standard_normal(DIM, np.float32)
            offsets[modality] = OFFSET * offset / np.linalg.norm(offset)
        _CACHE[seed] = maps, offsets
    return _CACHE[seed]


def _maps(seed: int) -> dict[str, NDArray[np.float32]]:
    return _drawn(seed)[0]


def _offsets(seed: int) -> dict[str, NDArray[np.float32]]:
    return _drawn(seed)[1]


def four_directions(x: NDArray[np.float32]) -> float:
    """Return the share of variance in the four largest principal directions."""
    variances = np.linalg.eigvalsh(np.cov(x, rowvar=False))
    return float(variances[-4:].sum() / variances.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--store", type=Path, help="measure the first --rows clips of this store instead"
    )
    args = parser.parse_args()
    if args.store:
        import sleepfm_index

        with sleepfm_index.open(args.store) as store:
            ids = store.metadata.clip_ids("has_bas and has_ecg and has_resp")[: args.rows]
            x = {m: store.vectors.of(ids, m)[0] for m in MODALITIES}
        args.rows = len(ids)
    else:
        drawn = Embeddings(args.seed)
        x = {m: drawn.rows(args.rows, m).astype(np.float32) for m in MODALITIES}
    for m in MODALITIES:
        print(f"{m:4s} four directions hold {four_directions(x[m]):.0%} of the variance")
    pick = np.random.default_rng(0).choice(args.rows, min(1000, args.rows), replace=False)
    for a in MODALITIES:
        for b in MODALITIES:
            scores = x[a][pick] @ x[b].T
            own = scores[np.arange(len(pick)), pick]
            ranks = (scores >= own[:, None]).sum(axis=1)
            near = np.abs(np.arange(args.rows) - pick[:, None]) <= 1
            print(
                f"{a:4s} -> {b:4s}  own {own.mean():.3f}  next to it {scores[near].mean():.3f}  "
                f"any {scores.mean():.3f} +- {scores.std():.3f}  top-1 {np.mean(ranks == 1):.3f}  "
                f"top-10 {np.mean(ranks <= 10):.3f}  median rank {np.median(ranks):g}"
            )


if __name__ == "__main__":
    main()
