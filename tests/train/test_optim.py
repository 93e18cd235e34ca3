"""Learning rates against step."""

import numpy as np
import pytest

from jaxmedgen.train.optim import SCHEDULES, schedule


def test_half_of_the_steps_are_constant_before_the_rate_falls_to_zero():
    rates = [float(schedule("half_linear", 0.2, 100)(step)) for step in range(101)]
    np.testing.assert_allclose(rates[:51], 0.2)
    np.testing.assert_allclose(rates[50:], np.linspace(0.2, 0, 51), atol=1e-7)
    warm = schedule("half_linear", 0.2, 110, warmup=10)
    np.testing.assert_allclose([warm(0), warm(5), warm(10), warm(60)], [0, 0.1, 0.2, 0.2])
    np.testing.assert_allclose([warm(85), warm(110)], [0.1, 0], atol=1e-7)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_schedules_start_at_their_peak(kind):
    assert float(schedule(kind, 0.1, 50)(0)) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="unknown schedule 'sudden'"):
        schedule("sudden", 0.1, 50)
