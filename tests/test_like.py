"""Other papers' conventions, on cases that can be worked out by hand."""

import numpy as np
import pytest

from hdstbench.metrics.like import like_hest, like_hetosge, like_magnet, like_triplex

UP, DOWN = np.array([0.0, 1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0, 0.0])


def _genes(*columns: np.ndarray) -> np.ndarray:
    return np.column_stack(columns).astype(np.float32)


def test_hest_pools_the_spots_of_a_fold() -> None:
    """Within each slide r is -1; the second slide is 10 higher in both, so that pooled r is near 1."""
    first = (_genes(UP), _genes(DOWN))
    second = (_genes(UP + 10), _genes(DOWN + 10))
    p, m = (np.concatenate([first[i], second[i]])[:, 0] for i in (0, 1))
    pooled = float(np.corrcoef(p, m)[0, 1])

    found = like_hest([[first, second]])

    assert pooled > 0.8
    assert found == pytest.approx({"pearson_mean": pooled, "pearson_std": 0.0})


def test_hest_means_over_folds_with_the_deviation_of_the_population() -> None:
    found = like_hest([[(_genes(UP), _genes(UP))], [(_genes(UP), _genes(DOWN))]])

    assert found == pytest.approx({"pearson_mean": 0.0, "pearson_std": 1.0})


def test_hest_passes_an_undefined_gene_on() -> None:
    found = like_hest([[(_genes(UP, np.ones(4)), _genes(UP, DOWN))]])

    assert np.isnan(found["pearson_mean"])


def test_triplex_drops_undefined_genes_and_weights_slides_by_spots() -> None:
    """Slide one: genes 1 and nothing, 4 spots. Slide two: gene -1 twice, 8 spots."""
    one = (_genes(UP, np.ones(4)), _genes(UP, UP))
    two = (_genes(np.tile(UP, 2), np.tile(UP, 2)), _genes(np.tile(DOWN, 2), np.tile(DOWN, 2)))

    assert like_triplex([[one, two]])["PearsonCorrCoef"] == pytest.approx((4 * 1.0 + 8 * -1.0) / 12)


def test_triplex_means_over_folds() -> None:
    up, down = [(_genes(UP), _genes(UP))], [(_genes(UP), _genes(DOWN))]

    assert like_triplex([up, up, down])["PearsonCorrCoef"] == pytest.approx(1 / 3)


def test_magnet_correlates_the_genes_of_a_bin() -> None:
    """The first bin has its genes in order, the second reversed, the third is flat and counts as 0."""
    m = np.array([[0.0, 1, 2], [0, 1, 2], [0, 1, 2]])
    p = np.array([[0.0, 1, 2], [2, 1, 0], [1, 1, 1]])

    found = like_magnet([[(p, m)], [(m, m)]])

    assert found["PCC"] == pytest.approx((0.0 + 1.0) / 2, abs=1e-7)
    assert found["PCC_std"] == pytest.approx(0.5, abs=1e-7)
    assert found["MSE"] == pytest.approx(((4 + 4 + 1 + 1) / 9 + 0) / 2)
    assert found["MAE"] == pytest.approx(((2 + 2 + 1 + 1) / 9 + 0) / 2)


def test_hetosge_means_over_images_then_over_genes() -> None:
    """Gene one: 1 and -1 over two images. Gene two: undefined in the first, 1 in the second."""
    one = (_genes(UP, np.ones(4)), _genes(UP, UP))
    two = (_genes(UP, UP), _genes(DOWN, UP))

    assert like_hetosge([[one, two]])["PCC"] == pytest.approx((0.0 + 1.0) / 2)
