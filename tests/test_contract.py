"""The contract: what it hashes, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepfm.contract import (
    CONTRACTS,
    ICML2024,
    PAPER_MONTAGE,
    RESERVED,
    ROBUST,
    Contract,
    load_contract,
)
from sleepfm.errors import WeightsError

SHIPPED = (
    (ICML2024, "d017db1468e0004245b0580d606d0270feee4c170a1e1b765263ac831f9d75c2"),
    (ROBUST, "3f684cac774fc4bfe82cff7a700860bbbf97c41bd7f03c5cddc1806e69e14941"),
)
NO_MODALITIES = ("others", "stage", "Bas", "left leg", "a_b", "../x", "1", "", "x" * 17)


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    """Contracts of one to five modalities, in any order, with or without titles and colours."""
    names = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True).filter(
        lambda name: name not in RESERVED
    )
    modalities = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    slots = {m: tuple(f"{m} {i}" for i in range(draw(st.integers(1, 16)))) for m in modalities}
    some = draw(st.lists(st.sampled_from(modalities), unique=True))
    return Contract(
        name="drawn",
        resampling="polyphase",
        scaling="robust",
        slots=slots,
        units={
            slot: draw(st.sampled_from(["uV", "", "%"])) for own in slots.values() for slot in own
        },
        titles={m: m.upper() for m in some},
        colours={m: draw(st.from_regex(r"#[0-9a-f]{6}", fullmatch=True)) for m in some},
    )


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda c: c.name)
def test_json_round_trip_keeps_the_hash(contract: Contract) -> None:
    again = Contract.from_json(contract.to_json())
    assert again == contract
    assert again.sha256 == contract.sha256
    assert contract.clip_samples == 30 * contract.sample_rate


@pytest.mark.parametrize(("contract", "sha256"), SHIPPED, ids=lambda x: getattr(x, "name", ""))
def test_what_ships_keeps_its_identity_and_its_text(contract: Contract, sha256: str) -> None:
    """Weights and stores that were made before name it, and bear it, as it was."""
    assert contract.sha256 == sha256
    fields = "name resampling scaling sample_rate clip_seconds slots units"
    assert list(contract.to_json()) == fields.split()


@given(contracts())
def test_any_set_of_modalities_survives_json_that_sorts_its_keys(contract: Contract) -> None:
    again = Contract.from_json(json.loads(json.dumps(contract.to_json(), sort_keys=True)))
    assert again == contract and again.sha256 == contract.sha256
    assert again.modalities == contract.modalities
    shown = replace(contract, titles={}, colours={})
    turned = replace(contract, slots=dict(reversed(contract.slots.items())))
    assert contract.sha256 == shown.sha256 == turned.sha256
    described = [contract.modality(m) for m in contract.modalities]
    assert [d.slots for d in described] == list(contract.slots.values())
    assert all(d.title and d.colour.startswith("#") for d in described)


def test_a_contract_is_named_or_read_from_a_file(tmp_path: Path) -> None:
    assert load_contract("sleepfm-index-robust") is ROBUST
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(PAPER_MONTAGE.to_json()))
    assert load_contract(str(path)) == PAPER_MONTAGE
    path.write_text("[1]")
    for text, says in (
        (str(path), "must be a JSON object"),
        ("nothing", "choose from sleepfm-icml2024"),
        (str(tmp_path / "none.json"), "cannot be read"),
    ):
        with pytest.raises(WeightsError, match=says):
            load_contract(text)


def test_the_papers_montage_has_its_numbers_of_channels() -> None:
    assert {m: len(s) for m, s in PAPER_MONTAGE.slots.items()} == {"bas": 10, "ecg": 2, "resp": 7}
    assert all(set(ROBUST.slots_of(m)) < set(PAPER_MONTAGE.slots_of(m)) for m in ROBUST.modalities)


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
        {"slots": {}},
        {"slots": {"bas": []}},
        {"slots": {"bas": "C3-M2"}},
        {"slots": {"bas": [f"X{i}" for i in range(17)]}},
        {"slots": {"bas": ["C3-M2"], "ecg": ["C3-M2"]}},
        {"slots": {"bas": ["C3\n"]}},
        *({"slots": {name: ["C3-M2"]}} for name in NO_MODALITIES),
        {"order": ["bas", "ecg"]},
        {"order": ["bas", "ecg", "ecg"]},
        {"titles": {"emg": "Muscle"}},
        {"titles": {"ecg": "$x$"}},
        {"colours": {"ecg": "red"}},
        {"boost": {"ECG": [0.1]}},
        {"boost": {"ECG": [0.0, 2.0]}},
        {"boost": {"ECG": [0.1, "much"]}},
        {"boost": {"PULSE": [0.1, 2.0]}},
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
