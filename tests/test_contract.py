"""The contract: what it hashes, and what it refuses."""

from dataclasses import replace

import pytest

from sleepfm.contract import CONTRACTS, ICML2024, ROBUST, Contract
from sleepfm.errors import WeightsError


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda c: c.name)
def test_json_round_trip_keeps_the_hash(contract: Contract) -> None:
    again = Contract.from_json(contract.to_json())
    assert again == contract
    assert again.sha256 == contract.sha256
    assert contract.clip_samples == 30 * contract.sample_rate


def test_the_hash_follows_meaning_and_not_the_name() -> None:
    assert replace(ROBUST, name="other").sha256 == ROBUST.sha256
    assert replace(ROBUST, sample_rate=128).sha256 != ROBUST.sha256
    assert ICML2024.sha256 != ROBUST.sha256
    assert replace(ROBUST, boost={"ECG": (0.1, 2.0)}).sha256 != ROBUST.sha256


def test_weights_and_stores_that_exist_keep_their_contracts() -> None:
    """A field that older files do not have must not change what identifies them."""
    assert ROBUST.sha256.startswith("3f684cac774fc4bf")
    assert ICML2024.sha256.startswith("d017db1468e00042")
    assert "boost" not in ROBUST.to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"resampling": "cubic"},
        {"scaling": "zscore"},
        {"boost": {"ECG": [0.1]}},
        {"boost": {"ECG": [0.0, 2.0]}},
        {"boost": {"ECG": [0.1, "much"]}},
        {"slots": {"bas": ["C3-M2"]}},
        {"slots": "bas"},
        {"units": None},
        {"surprise": 1},
        {"sample_rate": 0},
        {"sample_rate": "256"},
        {"clip_seconds": 30.0},
    ],
)
def test_what_is_not_understood_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(WeightsError, match="not a contract"):
        Contract.from_json(ROBUST.to_json() | change)
