"""Packaging of msrcnn."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "msrcnn" / "version.py").read_text())[1]
# What some commands need; the tests need all of it.
EXTRAS = {
    "onnx": ["onnx>=1.17", "onnxruntime>=1.19"],  # msrcnn export; with NumPy 2
    "video": ["av>=14"],  # msrcnn predict; frames have a rotation since 14
}

setup(
    name="msrcnn",
    version=VERSION,
    description="Mask Scoring R-CNN for Detectron2",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["msrcnn", "msrcnn.*"]),
    package_data={
        "msrcnn": ["py.typed", "configs/*.yaml", "configs/**/*.yaml", "configs/**/*.py"],
        "msrcnn.published": ["numbers.yaml"],
        "msrcnn.visualization": ["report.css", "report.js"],
    },
    # Detectron2 is not on PyPI under its name: this script installs it.
    scripts=["tools/install_detectron2.py"],
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "cloudpickle>=3.0",
        "filelock>=3.12",
        "fvcore>=0.1.5.post20221221,<0.1.6",
        "hotcoco>=1.3",
        "hydra-core>=1.3",
        "iopath>=0.1.9",
        "matplotlib>=3.9",
        "numpy>=2",  # Detectron2 v0.6 uses np.bool
        "omegaconf>=2.3",
        "opencv-python-headless>=4.10.0.84",  # for detectron2.utils.visualizer
        "orjson>=3.10",
        "Pillow>=10.1",
        "pycocotools>=2.0.8",
        "pydantic>=2.10",
        "rich>=13",
        "safetensors>=0.5",
        "scipy>=1.13",
        "shapely>=2.0.5",
        "submitit>=1.5",
        "tabulate>=0.9",
        "tensorboard>=2.17",
        "termcolor>=2.0",
        "tqdm>=4.66",
        "typing-extensions>=4.12.2",
        "yacs>=0.1.8",
    ],
    entry_points={"console_scripts": ["msrcnn = msrcnn.cli:main"]},
    extras_require={
        **EXTRAS,
        "dev": [
            "cogapp>=3.4",
            "hypothesis>=6.100",
            "ipykernel>=7.0",
            "mypy>=1.18",
            "nbclient>=0.10",
            "pytest>=9.2",
            "pytest-cov>=7.0",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "ruff>=0.9",
            *(package for packages in EXTRAS.values() for package in packages),
        ],
        "docs": ["mkdocs-material>=9.6", "mkdocstrings[python]>=0.29"],
    },
)
