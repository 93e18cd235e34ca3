"""Packaging of jaxmedgen; `pip install .` or, for development, `pip install -e '.[dev]'`."""

import pathlib

import setuptools

HERE = pathlib.Path(__file__).parent

setuptools.setup(
    name="jaxmedgen",
    version="0.1.0",
    description="Generative models, data augmentation and segmentation of medical images in JAX",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        *setuptools.find_packages(include=["jaxmedgen", "jaxmedgen.*"]),
        "jaxmedgen.configs",
    ],
    package_dir={"jaxmedgen.configs": "configs"},
    package_data={
        "jaxmedgen": ["report/templates/*", "ops/kernels/cpp/*", "py.typed"],
        "jaxmedgen.configs": ["labels/*"],
    },
    install_requires=[
        "absl-py",
        "beartype",
        "blackjax>=1.7",
        "chex",
        "flax>=0.12",
        "grain>=0.2.12",
        "importlib_resources",  # etils needs it and does not say so
        "jax>=0.10",
        "jaxtyping",
        "jinja2",
        "matplotlib",
        "meshio>=5.3",
        "ml_collections>=1.0",
        "nibabel>=5",
        "nilearn>=0.11",
        "numpy>=2",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11",
        "pillow",
        "rich",
        "scikit-image",
        "scikit-learn",
        "scipy",
        "tensorboardX",
        "tensorflow-datasets>=4.9.9",
    ],
    extras_require={
        "cuda": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
        "n4": ["SimpleITK>=2.3"],
        "bench": ["torch", "torchvision", "torch-fidelity", "monai", "pythae"],
        "dev": [
            "SimpleITK>=2.3",
            "hypothesis",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "setuptools",
        ],
        "docs": ["mkdocs", "mkdocs-material"],
    },
    entry_points={"console_scripts": ["jaxmedgen=jaxmedgen.cli.main:main"]},
)
