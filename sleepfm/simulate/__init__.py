"""Simulated nights with known physiology, for the demo, the tests, and training without real data.

Brain, heart and breathing of a simulated night share physiology: sleep stage, breathing, events,
movement and the person. Everything else is drawn independently per channel. Parameters, their
sources, and limitations are in docs/simulation.md.
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
