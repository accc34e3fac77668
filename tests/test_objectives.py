"""The objectives are the authors', and do the right thing where theirs say nothing."""

import json
from pathlib import Path

import numpy as np
import parity
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sleepfm.choices import Objective
from sleepfm.training.objectives import contrast

OBJECTIVES: list[Objective] = ["pairwise", "leave-one-out"]


def _unit(seed: int, count: int, modalities: int = 3) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(count, 16, generator=draw), dim=1) for _ in range(modalities)]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_losses_and_gradients_are_the_authors(objective: Objective, parity_dir: Path) -> None:
    name = objective.replace("-", "_")
    names = [parity.AUTHORS_NAMES[m] for m in parity.AUTHORS_ORDER]
    spec = json.loads((parity_dir / "state_dict_spec.json").read_text())
    with np.load(parity_dir / "reference.npz") as reference:
        inputs = [
            torch.from_numpy(reference[f"objective_input.{n}"]).requires_grad_(True) for n in names
        ]
        found = contrast(objective, inputs, torch.tensor(2.0))
        found.loss.backward()
        assert found.loss.item() == pytest.approx(float(reference[f"loss.{name}"]), abs=1e-5)
        for n, own in zip(names, inputs, strict=True):
            assert own.grad is not None
            np.testing.assert_allclose(own.grad.numpy(), reference[f"grad.{name}.{n}"], atol=1e-5)
    sums = [sum(pair) for pair in spec[f"loss_terms.{name}"].values()]
    assert [t.cross_entropy.item() for t in found.terms] == pytest.approx(sums, rel=1e-5)


def test_with_two_modalities_both_objectives_coincide() -> None:
    results = []
    for objective in OBJECTIVES:
        vectors = [v.requires_grad_(True) for v in _unit(0, 9, 2)]
        loss = contrast(objective, vectors, torch.tensor(1.0)).loss
        loss.backward()
        results.append((loss.detach(), vectors[0].grad, vectors[1].grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("modalities", [2, 3, 5])
def test_vectors_all_alike_lose_the_logarithm_and_hit_nothing(
    objective: Objective, modalities: int
) -> None:
    alike = [F.normalize(torch.ones(6, 16), dim=1)] * modalities
    found = contrast(objective, alike, torch.tensor(3.0))
    assert found.loss.item() == pytest.approx(np.log(6), rel=1e-5)
    assert sum(t.hits.item() for t in found.terms) == 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_equal_vectors_across_modalities_are_all_hits(objective: Objective) -> None:
    one = _unit(2, 7, 1)[0]
    found = contrast(objective, [one, one, one], torch.tensor(4.0))
    assert all(t.hits.item() == 2 * t.clips == 14 for t in found.terms)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_full_mask_changes_nothing(objective: Objective) -> None:
    vectors = _unit(3, 8)
    whole = contrast(objective, vectors, torch.tensor(1.0))
    masked = contrast(objective, vectors, torch.tensor(1.0), torch.ones(3, 8, dtype=torch.bool))
    torch.testing.assert_close(masked.loss, whole.loss)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_absent_modality_plays_no_part(objective: Objective) -> None:
    vectors = _unit(4, 8)
    present = torch.ones(3, 8, dtype=torch.bool)
    present[1, 2:5] = False
    present[:, 7] = torch.tensor([True, False, False])
    before = contrast(objective, vectors, torch.tensor(1.0), present)
    garbage = [v.clone().requires_grad_(True) for v in vectors]
    with torch.no_grad():
        garbage[1][2:5] = 1e3
        garbage[2][7] = 1e3
    after = contrast(objective, garbage, torch.tensor(1.0), present)
    torch.testing.assert_close(after.loss, before.loss)
    after.loss.backward()
    assert garbage[1].grad is not None
    assert garbage[1].grad[2:5].abs().max() == 0
    assert [t.clips for t in after.terms] == ([4, 7, 4] if objective == "pairwise" else [7, 4, 7])


def test_the_others_are_the_mean_of_those_present() -> None:
    a, b, c = _unit(5, 4)
    present = torch.ones(3, 4, dtype=torch.bool)
    present[2, 0] = False
    others = (b + c) / 2
    others[0] = b[0]
    logits = a @ others.T
    own = torch.arange(4)
    expected = F.cross_entropy(logits, own, reduction="sum") + F.cross_entropy(
        logits.T, own, reduction="sum"
    )
    found = contrast("leave-one-out", [a, b, c], torch.tensor(0.0), present)
    torch.testing.assert_close(found.terms[0].cross_entropy, expected)


def test_one_clip_or_one_modality_is_no_contrast() -> None:
    with pytest.raises(ValueError, match="two clips"):
        contrast("pairwise", _unit(6, 1), torch.tensor(0.0))
    with pytest.raises(ValueError, match="two modalities"):
        contrast("pairwise", _unit(6, 4, 1), torch.tensor(0.0))
