"""Packaging of msrcnn."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "msrcnn" / "version.py").read_text())[1]
# For `msrcnn export --format onnx`, which also runs the file to check it.
ONNX = ["onnx>=1.16", "onnxruntime>=1.18"]

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
        "msrcnn": ["configs/*.yaml", "configs/**/*.yaml", "configs/**/*.py"],
        "msrcnn.published": ["numbers.yaml"],
        "msrcnn.visualization": ["report.css", "report.js"],
    },
    # Detectron2 is not on PyPI under its name: tools/install_detectron2.py installs it.
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "cloudpickle",
        "filelock",
        "fvcore>=0.1.5,<0.1.6",
        "hotcoco>=1.3",
        "hydra-core>=1.1",
        "iopath>=0.1.9",
        "matplotlib",
        "numpy>=2",  # Detectron2 v0.6 uses np.bool
        "omegaconf>=2.1",
        "opencv-python-headless",  # for detectron2.utils.visualizer
        "orjson>=3.10",
        "Pillow>=10.1",
        "pycocotools>=2.0.7",
        "pydantic>=2.10",
        "rich>=13",
        "safetensors>=0.5",
        "scipy>=1.11",
        "shapely>=2.0",
        "submitit>=1.5",
        "tabulate",
        "tensorboard",
        "termcolor>=1.1",
        "tqdm",
        "typing-extensions>=4.6",
        "yacs>=0.1.8",
    ],
    entry_points={"console_scripts": ["msrcnn = msrcnn.cli:main"]},
    extras_require={
        "onnx": ONNX,
        "dev": ["cogapp", "hypothesis", "pytest", "pytest-timeout", "pytest-xdist", "ruff", *ONNX],
    },
)
