"""Comparison with a public EEG encoder trained on sleep: the Greifswald Sleep Stage Classifier.

GSSC (Hanna and Flöel 2023, Sleep 46; AGPL) was trained to stage sleep on several thousand nights of
other cohorts, and its package contains its weights. For this benchmark it is installed next to this
project, without its dependencies; no part of it is copied here:

    pip install --no-deps --target .gssc gssc==0.0.9
    NIGHTS="records --channels channels.yaml --subjects subjects.csv"      (in ../shared/slpdb)
    python benchmarks/gssc.py $NIGHTS --gssc .gssc --out gssc.npz
    python experiments/real_nights.py $NIGHTS --weights demo --vectors gssc=gssc.npz

The first python command writes one vector per clip: the input of GSSC's decision layers, averaged
over the EEG channels of the recording, each paired with the EOG if there is one. It also prints how
well GSSC itself stages the clips, from single clips and with its recurrent network over each
recording. The second compares its vectors with ours, by the same linear probe with whole people
held out. Signals are prepared as in GSSC's own inference: 0.3 to 30 Hz, 2,560 samples per 30 s,
z-scored per recording. A vector thus depends on the whole recording, so GSSC does not implement
`Encoder` (sleepfm/encoders/external.py), which sees single clips.

Loading its weights runs code from the package (they are pickled modules); install it only from a
source that you trust.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import butter, resample_poly, sosfiltfilt

from sleepfm.cohort_choices import NO_CHOICES
from sleepfm.contract import BODY
from sleepfm.stages import SCORED
from sleepfm.training.clipcache import CachedRecording, prepare_clips

Floats = NDArray[np.floating]

SAMPLES: Final = 2560
BAND_HZ: Final = (0.3, 30.0)
GRU: Final = (10, 256)
"""Layers and width of its recurrent network's state."""
CONTRACT: Final = replace(BODY, name="plain", sample_rate=128, boost={})
EOG: Final = ("E1-M2",)


class Gssc:
    """The two networks of GSSC.

    Parameters
    ----------
    folder : Path
        Where pip installed the package (``--target``).
    """

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(folder))
        nets = folder / "gssc" / "nets"
        if not nets.is_dir():
            raise SystemExit(
                f"no gssc in {folder}: pip install --no-deps --target {folder} gssc==0.0.9"
            )
        self.signal, self.context = (
            torch.load(nets / name, map_location="cpu", weights_only=False).eval()
            for name in ("sig_net_v1.pt", "gru_net_v1.pt")
        )

    def __call__(self, recording: CachedRecording) -> tuple[Floats, Floats, Floats] | None:
        """Return vectors [n, d], and log probabilities [n, 5] of the clip alone and in context."""
        bas = np.asarray(recording.signals.get("bas", np.zeros((0, 5, 1))), np.float64)
        slots = CONTRACT.slots_of("bas")
        there = [s for i, s in enumerate(slots) if len(bas) and np.abs(bas[:, i]).max() > 0]
        eeg, eog = ([s for s in there if (s in EOG) == wanted] for wanted in (False, True))
        if not eeg:
            return None
        signals = {s: prepared(bas[:, slots.index(s)]) for s in there}
        vectors, alone, context = [], [], []
        with torch.no_grad():
            for name in eeg:
                given = {"eeg": signals[name]} | ({"eog": signals[eog[0]]} if eog else {})
                rep, decided = self.signal(given, rep_output=True)
                vectors.append(rep[..., 0])
                alone.append(decided[..., 0].log_softmax(dim=1))
                layers, width = GRU
                states = self.context(rep.swapaxes(-1, 1), torch.zeros(layers, 1, width))[0]
                context.append(states[:, 0])
        return tuple(torch.stack(x).mean(dim=0).numpy() for x in (vectors, alone, context))  # type: ignore[return-value]


def prepared(channel: Floats) -> torch.Tensor:
    """Filter, resample and standardise one channel of a recording, float32 [n, 1, 2560]."""
    rate, clips = CONTRACT.sample_rate, len(channel)
    band = butter(4, BAND_HZ, "bandpass", fs=rate, output="sos")
    whole = sosfiltfilt(band, channel.ravel())
    whole = resample_poly(whole, SAMPLES, channel.shape[1]).reshape(clips, SAMPLES)
    whole = (whole - whole.mean()) / (whole.std() + 1e-9)
    return torch.tensor(whole[:, None], dtype=torch.float32)


def balanced(stage: NDArray[np.str_], scores: Floats, person: NDArray[np.str_]) -> str:
    """Format balanced accuracy, mean over people."""
    guess = np.array(SCORED)[scores.argmax(axis=1)]
    found = []
    for name in np.unique(person):
        own = (person == name) & np.isin(stage, SCORED)
        kinds = np.unique(stage[own])
        found.append(np.mean([(guess[own & (stage == s)] == s).mean() for s in kinds]))
    return f"{np.mean(found):.3f}, mean of {len(found)} people"


def main() -> None:
    """Encode all recordings, and report the staging accuracy of GSSC itself."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--subjects", type=Path, required=True)
    parser.add_argument("--channels", type=Path)
    parser.add_argument("--gssc", type=Path, default=Path(".gssc"))
    parser.add_argument("--cache", type=Path, default=Path("real-nights"))
    parser.add_argument("--out", type=Path, default=Path("gssc.npz"))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    network = Gssc(args.gssc)
    choices = NO_CHOICES.updated(CONTRACT, channels=args.channels)
    recordings = prepare_clips(args.recordings, args.cache, CONTRACT, choices=choices).recordings
    with args.subjects.open(newline="", encoding="utf-8") as file:
        subject = {row["recording_id"]: row["subject_id"] for row in csv.DictReader(file)}
    vectors: dict[str, Any] = {}
    known = []
    for recording in recordings:
        found = network(recording)
        if found is None:
            print(f"{recording.recording_id}: no EEG", file=sys.stderr)
            continue
        vectors[recording.recording_id] = found[0].astype(np.float32)
        known.append((recording, found))
    np.savez(args.out, **vectors)
    stage = np.concatenate([r.stage for r, _ in known])
    person = np.concatenate([[subject[r.recording_id]] * r.count for r, _ in known])
    width = next(iter(vectors.values())).shape[1]
    print(f"{len(stage):,} clips, vectors of {width} dimensions -> {args.out}")
    for name, at in (("clip alone", 1), ("in its recording", 2)):
        scores = np.concatenate([found[at] for _, found in known])
        print(f"GSSC's own stages, {name}: balanced accuracy {balanced(stage, scores, person)}")


if __name__ == "__main__":
    main()
