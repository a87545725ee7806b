"""The images of five shapes: their masks, their pixels, their shares."""

import numpy as np
import pytest
from scipy import ndimage, stats

from skscore.datasets import SHAPES, make_shapes, shape_masks

ALPHA = 1e-6


def test_pixels_are_uniform_inside_the_mask_and_zero_outside():
    X, y, masks = make_shapes(400, random_state=0)
    assert X.shape == masks.shape == (400, 784)
    assert y.shape == (400,)
    assert not X[~masks].any()
    inside = X[masks]
    assert stats.kstest(inside, "uniform").pvalue > ALPHA
    assert stats.kstest(inside**1.05, "uniform").pvalue < ALPHA  # what a wrong law would give


def test_every_mask_is_one_of_the_catalogue_with_its_label():
    known, labels = shape_masks()
    of = {mask.tobytes(): label for mask, label in zip(known, labels, strict=True)}
    assert len(of) == len(known)  # no two are the same
    _, y, masks = make_shapes(500, random_state=1)
    assert [of[mask.tobytes()] for mask in masks] == y.tolist()
    assert set(y) == set(range(len(SHAPES)))


def parts_and_holes(mask):
    """Return how many parts a mask has, and how many holes."""
    image = np.pad(mask.reshape(28, 28), 1)
    return ndimage.label(image)[1], ndimage.label(~image)[1] - 1


def test_shapes_are_what_they_are_called():
    known, labels = shape_masks()
    for name, masks in ((s, known[labels == i]) for i, s in enumerate(SHAPES)):
        mask = max(masks, key=np.sum).reshape(28, 28)
        rows, columns = (np.flatnonzero(mask.any(axis=a)) for a in (1, 0))
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert parts_and_holes(mask) == ((2, 2) if name == "concentric circles" else (1, 0)), name
        fill, aspect = box.mean(), max(box.shape) / min(box.shape)
        assert (fill == 1) == (name in ("bar", "square")), name
        assert (aspect > 2) == (name == "bar"), name
        if name == "disc":
            assert fill == pytest.approx(np.pi / 4, abs=0.05)
            assert (box == box.T).all()
        if name == "triangle":
            assert (np.diff(box.sum(axis=1)) >= 0).all()
            assert fill == pytest.approx(0.5, abs=0.1)


def test_every_ring_has_a_gap():
    known, labels = shape_masks()
    rings = known[labels == SHAPES.index("concentric circles")]
    sizes = {mask.sum(): mask for mask in rings}
    assert all(parts_and_holes(mask) == (2, 2) for mask in sizes.values())


@pytest.mark.parametrize("weights", [None, [1, 2, 3, 4, 0], (0.02, 0.3, 0.05, 0.3, 0.33)])
def test_shapes_come_with_their_weights(weights):
    y = make_shapes(3000, class_weights=weights, random_state=2)[1]
    shares = np.full(5, 0.2) if weights is None else np.array(weights) / np.sum(weights)
    seen = np.bincount(y, minlength=5)
    assert not seen[shares == 0].any()
    live = shares > 0
    assert stats.chisquare(seen[live], 3000 * shares[live]).pvalue > ALPHA
    wrong = np.roll(shares, 1) if weights is not None else np.array([0.3, 0.2, 0.2, 0.2, 0.1])
    kept = wrong > 0
    assert seen[~kept].any() or stats.chisquare(seen[kept], 3000 * wrong[kept]).pvalue < ALPHA


def test_images_are_seeded_and_leave_the_global_stream():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the global stream itself
    a, b, other = (make_shapes(5, random_state=seed)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, other)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    "weights",
    [[1, 1], [1, 1, 1, 1, -1], [0] * 5, [1, 1, 1, 1, np.nan], ["1"] * 5, "equal", {"disc": 1}, 3],
)
def test_bad_weights_are_refused_by_name(weights):
    with pytest.raises(ValueError, match=r"class_weights=.*5 finite numbers >= 0"):
        make_shapes(3, class_weights=weights)


def test_weights_count_by_their_ratios():
    for scale in (1e308, 1e-308):
        y = make_shapes(50, class_weights=[scale, 0, scale, 0, 0], random_state=0)[1]
        np.testing.assert_array_equal(
            y, make_shapes(50, class_weights=[1, 0, 1, 0, 0], random_state=0)[1]
        )


@pytest.mark.parametrize("n", [0, -1, 2.5, "3", None, True])
def test_a_bad_count_is_refused_by_name(n):
    with pytest.raises(ValueError, match="n_samples"):
        make_shapes(n)
