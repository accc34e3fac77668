"""The pulse wave in the finger: one per beat, attenuated by arousals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from sleepfm.simulate.events import Spans
from sleepfm.simulate.grid import GRID_HZ, Floats, drift, highpass, response, stamp, times
from sleepfm.simulate.heart import Beats
from sleepfm.simulate.respiration import Breathing
from sleepfm.simulate.streams import Streams
from sleepfm.simulate.subject import Subject

_HIGHPASS_HZ = 0.1


def pulse(
    streams: Streams,
    subject: Subject,
    beats: Beats,
    breathing: Breathing,
    arousals: Spans,
    movement: Floats,
) -> NDArray[np.float32]:
    """Render the finger pulse wave at its sampling rate, float32, in arbitrary units.

    The wave follows the R peak by a transit time (longer in inspiration, when pressure is low). Its
    amplitude grows with the filling time before the beat, varies with breathing, and falls for
    about ten seconds after an arousal (vasoconstriction). Sizes are assumed (docs/simulation.md).

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    subject : Subject
        The simulated person and sensors.
    beats : Beats
        Heart beats of the night.
    breathing : Breathing
        Breathing of the night.
    arousals : Spans
        Arousals of the night.
    movement : ndarray of float64, shape [samples]
        Strength of body movement on the grid.
    """
    rng = streams("noise Pleth")
    rate = subject.pulse_rate
    n = len(movement)
    grid = times(n, GRID_HZ)
    constriction = response(n, arousals.onset_s, subject.vasoconstriction * arousals.strength, 7.0)
    slow_amplitude = np.exp(0.25 * drift(rng, n, 200.0) - np.minimum(constriction, 1.5))
    slow_amplitude *= 1 + 0.08 * breathing.chest
    amplitude = np.interp(beats.at_s, grid, slow_amplitude)
    if len(amplitude):
        amplitude *= np.clip(beats.rr_s / np.median(beats.rr_s), 0.3, 1.4) ** 0.7
    transit = subject.pulse_transit_s + 0.008 * np.interp(beats.at_s, grid, breathing.chest)
    out = np.zeros(n * rate // GRID_HZ, np.float32)

    def wave(tau: Floats, k: NDArray[np.intp]) -> Floats:
        systolic = np.exp(-0.5 * (tau / np.where(tau < 0, 0.06, 0.10)) ** 2)
        notch = subject.pulse_notch * np.exp(-0.5 * ((tau - 0.26) / 0.08) ** 2)
        return np.asarray(amplitude[k, None] * (systolic + notch))

    stamp(out, rate, beats.at_s + transit, (0.25, 0.6), wave)
    t = times(len(out), rate)
    swing = lfilter([0.05], [1, -0.95], rng.standard_normal(len(out))) * np.sqrt(39.0)
    out += np.interp(t, grid, movement) * 1.5 * swing
    out += np.interp(t, grid, 0.15 * breathing.chest + 0.1 * drift(rng, n, 20.0))
    out += 0.02 * rng.standard_normal(len(out))
    return highpass(out, rate, _HIGHPASS_HZ)
