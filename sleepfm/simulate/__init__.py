"""Nights with known physiology, for the demo, the tests, and training where no data may go.

What brain, heart and breathing share in a simulated night is physiology: sleep stage, breathing,
events, movement and the person. What is not shared is drawn independently per channel. Every figure
and its source, and what is not realistic, is in docs/simulation.md.
"""

from sleepfm.simulate.cohort import simulate_cohort
from sleepfm.simulate.night import Night, render_night, simulate_night
from sleepfm.simulate.signal import Signal
from sleepfm.simulate.truth import clip_truth

__all__ = [
    "Night",
    "Signal",
    "clip_truth",
    "render_night",
    "simulate_cohort",
    "simulate_night",
]
