"""Work folders: runs go on with their own settings, and with later ones that are off."""

import json

import pytest

from jaxmedgen.configuration import ConfigError, load_config
from jaxmedgen.experiments.training import claim_workdir


def test_new_settings_that_are_off_leave_older_runs_resumable(tmp_path):
    config = load_config("lvae:cpu")
    claim_workdir(config, tmp_path)
    older = config.to_dict()
    del older["augment"], older["patience"], older["data"]["template"]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(older))
    claim_workdir(config, tmp_path)
    assert json.loads(path.read_text())["augment"] == {"preset": "none"}
    path.write_text(json.dumps(older))
    with config.unlocked():
        config.augment.preset = "shapes"
    with pytest.raises(ConfigError, match=r"other settings \(augment.preset: None -> shapes\)"):
        claim_workdir(config, tmp_path)
    with config.unlocked():
        config.augment.preset, config.steps = "none", 7
    with pytest.raises(ConfigError, match="steps: 1000 -> 7"):
        claim_workdir(config, tmp_path)
