"""Whole pipelines with their text encoders: searched, exported, sampled, and applied to a fresh one."""

from pathlib import Path

import pytest
from whole_loops import run_loop
from whole_pipelines import WHOLE, whole


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", WHOLE)
def test_the_whole_loop(kind: str, tmp_path: Path):
    """What `exeunt sample` makes is what the pipeline makes, and what is skipped shows."""
    case = WHOLE[kind]
    outcome = run_loop(whole(kind), tmp_path, case.sizes, case.call)
    assert outcome.latents < 1e-5
    assert outcome.levels <= 1
    assert outcome.effect > 100 * outcome.latents
