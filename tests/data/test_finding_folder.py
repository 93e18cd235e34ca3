"""Folders of images with and without a finding: who trains, who is held out, which masks count."""

import numpy as np
import pytest

from jaxmedgen.cli.main import main
from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.nifti import read_volume, write_volume
from jaxmedgen.data.splits import patient_of

SIDE = 16


def make_folder(folder, masked=5, value=7, kinds=(1,)):
    """12 patients with two images each: one with a bright square, one without.

    The first `masked` patients have masks of their squares, of values in turn ``value * kinds``.
    """
    rng, lines = np.random.default_rng(0), ["case,group"]
    for patient in range(12):
        kind = kinds[patient % len(kinds)]
        for side in ("left", "right"):
            image = rng.uniform(1, 2, (SIDE, SIDE)).astype(np.float32)
            name = f"sub-{patient:02d}_{side}"
            if side == "left":
                image[5:10, 4:9] += 3 * kind
                if patient < masked:
                    mask = np.zeros((SIDE, SIDE), np.uint8)
                    mask[5:10, 4:9] = value * kind
                    write_volume(folder / "labels" / f"{name}.nii.gz", mask, np.eye(4))
            write_volume(folder / "images" / f"{name}.nii.gz", image, np.eye(4))
            group = "absence" if side == "right" else ("presence" if len(kinds) == 1 else str(kind))
            lines.append(f"{name},{group}")
    (folder / "presence.csv").write_text("\n".join(lines))
    return folder


def settings(folder, **more):
    found = {
        "data.folder": str(folder),
        "data.presence_of": str(folder / "presence.csv"),
        "data.shape": f"({SIDE}, {SIDE})",
        "data.spacing": "native",
        "data.validation": "1",
        "data.test": "1",
    }
    return found | {k.replace("__", "."): v for k, v in more.items()}


def built(folder, **more):
    return build_sources(load_config("genseg:cpu,data=findings", settings(folder, **more)).data)


def test_images_are_paired_and_patients_of_held_out_masks_do_not_train(tmp_path):
    sources = built(make_folder(tmp_path))
    pairs, held = (
        sources.train,
        (*sources.validation.info.case_names, *sources.test.info.case_names),
    )
    assert len(pairs) == 10 and len(held) == 2
    assert all(sources.test[0]["label"][5:10, 4:9].ravel() == 1)
    away = {patient_of(name) for name in held}
    shown = {pairs.info.case_names[i] for i in range(10)}
    assert not away & {patient_of(name) for name in shown}
    assert all("_left_0" in name for name in shown)
    records = [pairs[i] for i in range(10)]
    assert sum(r["has_mask"] for r in records) == 3  # five masks, two held out
    for record in records:
        assert (record["label"].sum() > 0) == bool(record["has_mask"])
        assert record["image"][5:10, 4:9].mean() > record["image"].mean() + 0.3
        assert record["absent"].shape == (SIDE, SIDE, 1) and record["domain"] == 0
        assert np.abs(record["image"]).max() < 1 + 1e-5
    assert len({r["absent"].tobytes() for r in records}) == 10
    fewer = built(tmp_path, data__labelled="0.1").train
    assert sum(fewer[i]["has_mask"] for i in range(10)) == 1


def test_kinds_of_findings_are_domains(tmp_path):
    folder = make_folder(tmp_path, masked=6, kinds=(1, 2))
    sources = built(folder, data__label_map=str(label_map(tmp_path)), data__test="2")
    assert sources.info.class_names == ("background", "1", "2")
    records = [sources.train[i] for i in range(len(sources.train))]
    assert {int(r["domain"]) for r in records} == {0, 1}
    for record in records:
        if record["has_mask"]:
            assert set(np.unique(record["label"])) == {0, record["domain"] + 1}


def label_map(folder):
    path = folder / "map.csv"
    path.write_text("value,name,class\n0,background,0\n7,1,1\n14,2,2\n")
    return path


def test_masks_alone_tell_where_all_images_have_one(tmp_path):
    folder = make_folder(tmp_path)
    with pytest.raises(ValueError, match=r"sub-00_right.*data\.presence_of"):
        built(folder, data__presence_of="")
    for patient in range(12):
        for side in ("left", "right"):
            path = folder / "labels" / f"sub-{patient:02d}_{side}.nii.gz"
            if not path.exists():
                mask = np.zeros((SIDE, SIDE), np.uint8)
                mask[5, 5] = 7 * (side == "left")
                write_volume(path, mask, np.eye(4))
    sources = built(folder, data__presence_of="")
    assert len(sources.train) == 10
    assert all(sources.train[i]["has_mask"] for i in range(10))


def test_contradictions_are_named(tmp_path):
    folder = make_folder(tmp_path)
    table = folder / "presence.csv"
    text = table.read_text()
    table.write_text(text.replace("sub-03_left,presence", "sub-03_left,absence"))
    with pytest.raises(ValueError, match=r"masks contradict .*sub-03_left \(absence\)"):
        built(folder)
    table.write_text(text.replace("sub-03_left,presence", "sub-03_left,tumour"))
    with pytest.raises(ValueError, match="gives tumour: the kinds are absence"):
        built(folder)
    table.write_text(text)
    with pytest.raises(ValueError, match=r"held out of 5"):
        built(folder, data__test="4")
    table.write_text(text.replace("absence", "presence"))
    with pytest.raises(ValueError, match="and 0 without"):
        built(folder)


def test_a_folder_of_findings_from_training_to_masks_and_healthy_images(tmp_path):
    """bin/train, bin/evaluate and bin/predict of such a run, on images of another size, too."""
    folder, workdir = make_folder(tmp_path / "data"), tmp_path / "work"
    overrides = settings(folder) | {
        "net.features": "(4, 8)",
        "net.unique": "2",
        "net.residual_taps": "3",
        "net.discriminator": "(4,)",
        "net.scales": "1",
        "net.spectral": "False",
        "loss.weights.cycle": "0.0",
        "batch_size": "4",
        "steps": "2",
        "show_every": "0",
        "parallel.data": "1",
    }
    flags = [f"--config.{key}={value}" for key, value in overrides.items()]
    command = ["train", "--config", "genseg:cpu,data=findings", "--workdir", str(workdir)]
    assert main([*command, *flags]) == 0
    assert main(["evaluate", "--workdir", str(workdir)]) == 0
    assert (workdir / "evaluation.json").is_file()
    scan = np.random.default_rng(1).uniform(0, 900, (20, 18)).astype(np.float32)
    write_volume(tmp_path / "scan.nii.gz", scan, np.diag([2.0, 2.0, 1.0, 1.0]))
    for name, more in (("masks", ()), ("healthy", ("--translate", "absence"))):
        output = tmp_path / name
        arguments = ["predict", "--workdir", str(workdir), "--input", str(tmp_path / "scan.nii.gz")]
        assert main([*arguments, "--output", str(output), *more]) == 0
        assert read_volume(output / "scan.nii.gz").array.shape == (20, 18)
