#!/usr/bin/env python
"""Install Detectron2 v0.6 from PyPI as a pure-Python package, or keep the one that is there.

PyPI has no package named ``detectron2``; it has an sdist, ``pb1-detectron2``, whose Python
files are those of the official v0.6 tag but whose C++ sources are missing, so it cannot be
built as it is. msrcnn does not need the C++ part: RoIAlign, NMS and deformable convolution come
from torchvision. This script downloads the sdist with pip (hash checked), fixes the few places
where v0.6 does not run on current PyTorch, NumPy and Pillow, builds a wheel named
``detectron2`` and installs it.

It needs only the standard library, pip, setuptools and an installed PyTorch (the sdist's
own ``setup.py`` imports torch while pip reads its metadata).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

SDIST_NAME = "pb1-detectron2"
SDIST_VERSION = "0.6"
# pip 26.3 rejects the sdist, because one of its optional extras is a URL; this version does not.
DOWNLOAD_PIP = "pip==26.2"
SDIST_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
# The local version suffix marks our build. Increase it when the fixes change.
WHEEL_VERSION = "0.6+msrcnn2"

MODULES = ("config", "data", "engine", "evaluation", "model_zoo", "modeling")

# The upstream pins are from 2021 (black==21.4b2, iopath<0.1.10) and partly serve Caffe2 only.
REQUIREMENTS = (
    "Pillow>=10.1",
    "cloudpickle",
    "fvcore>=0.1.5,<0.1.6",
    "hydra-core>=1.1",
    "iopath>=0.1.9",
    "matplotlib",
    "numpy>=2",  # for np.bool, which 1.24 to 1.26 lack
    "omegaconf>=2.1",
    "opencv-python-headless",  # imported by the visualizer, but not required upstream
    "pycocotools>=2.0.2",
    "tabulate",
    "tensorboard",
    "termcolor>=1.1",
    "tqdm>4.29.0",
    "yacs>=0.1.8",
)

OPTIONAL_NATIVE = """\
try:
    from detectron2 import _C
except ImportError:  # pure-Python build: {what} is not available

    class _C:
        def __getattr__(self, name):
            raise RuntimeError(
                "{what} needs detectron2's C++ extension, which this pure-Python build lacks."
            )

    _C = _C()
"""


class InstallError(RuntimeError):
    """An error that is shown without a traceback."""


class Fix(NamedTuple):
    """Replaces every occurrence of ``old`` in one file of Detectron2 by ``new``."""

    name: str
    path: str  # relative to the package folder
    old: str
    new: str
    count: int  # number of occurrences of ``old`` in the file

    def apply(self, package: Path) -> None:
        """Fixes the file in place.

        Raises:
            InstallError: if ``old`` does not occur exactly ``count`` times.
        """
        file = package / self.path
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        if text.count(self.old) != self.count:
            raise InstallError(
                f"fix '{self.name}' expects {self.old!r} {self.count} time(s) in "
                f"detectron2/{self.path}, found {text.count(self.old)}: the source is not the "
                f"{SDIST_NAME} {SDIST_VERSION} this script was written for."
            )
        file.write_text(text.replace(self.old, self.new), encoding="utf-8")


def _optional_native(name: str, path: str, what: str) -> Fix:
    return Fix(name, path, "from detectron2 import _C\n", OPTIONAL_NATIVE.format(what=what), 1)


FIXES = (
    # Pillow 10 removed LINEAR, an alias of BILINEAR.
    Fix("pillow-linear", "data/transforms/transform.py", "Image.LINEAR", "Image.BILINEAR", 1),
    _optional_native("native-deform-conv", "layers/deform_conv.py", "deformable convolution"),
    _optional_native("native-roi-align", "layers/roi_align_rotated.py", "rotated RoIAlign"),
    _optional_native("native-rotated-boxes", "layers/rotated_boxes.py", "rotated box IoU"),
    _optional_native("native-coco-eval", "evaluation/fast_eval_api.py", "the C++ COCOeval"),
    # NumPy 1.24 removed np.int. The AttributeError was swallowed by a caller, and with it the
    # class histogram and the check that category ids are in range.
    Fix("numpy-int", "data/build.py", "dtype=np.int\n", "dtype=int\n", 1),
    Fix("numpy-int-histogram", "data/build.py", "dtype=np.int)", "dtype=int)", 1),
    # Python 3.11 refuses to sample from a set. Sorted, so that a seed fixes the choice.
    Fix(
        "sample-from-set",
        "data/common.py",
        "self._rng.sample(self._fallback_candidates, k=1)",
        "self._rng.sample(sorted(self._fallback_candidates), k=1)",
        1,
    ),
    # setuptools 82 dropped pkg_resources.
    Fix(
        "resources-import",
        "model_zoo/model_zoo.py",
        "import pkg_resources\n",
        "from importlib import resources\n",
        1,
    ),
    Fix(
        "resources-lookup",
        "model_zoo/model_zoo.py",
        'pkg_resources.resource_filename(\n        "detectron2.model_zoo", '
        'os.path.join("configs", config_path)\n    )',
        'str(resources.files("detectron2.model_zoo").joinpath("configs", config_path))',
        1,
    ),
)

PYPROJECT = """\
[build-system]
requires = ["setuptools>=70.1"]
build-backend = "setuptools.build_meta"

[project]
name = "detectron2"
version = "{version}"
description = "Detectron2 v0.6, pure-Python build for msrcnn"
requires-python = ">=3.10"
license = {{ text = "Apache-2.0" }}
dependencies = [{requirements}]

[tool.setuptools.package-dir]
"detectron2.projects.point_rend" = "projects/PointRend/point_rend"
"detectron2.projects.deeplab" = "projects/DeepLab/deeplab"
"detectron2.projects.panoptic_deeplab" = "projects/Panoptic-DeepLab/panoptic_deeplab"

[tool.setuptools]
packages = [{packages}]

[tool.setuptools.package-data]
"detectron2.model_zoo" = ["configs/**/*.yaml", "configs/**/*.py"]
"""
PROJECTS = ("point_rend", "deeplab", "panoptic_deeplab")


def run(*command: str, **kwargs) -> str:
    """Runs a command and returns its standard output.

    Raises:
        InstallError: with the end of the command's output, if it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise InstallError(f"command failed: {' '.join(command)}\n{tail}")
    return done.stdout


def pip(*arguments: str, **kwargs) -> str:
    """Runs this interpreter's pip."""
    return run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, **kwargs)


def download_sdist(folder: Path) -> Path:
    """Downloads the pinned sdist with pip, which rejects it if the hash differs."""
    requirements = folder / "detectron2-sdist.txt"
    requirements.write_text(f"{SDIST_NAME}=={SDIST_VERSION} --hash=sha256:{SDIST_SHA256}\n")
    own_pip = folder / "pip"
    pip("install", "--quiet", "--target", str(own_pip), DOWNLOAD_PIP)
    pip(
        *("download", "--quiet", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"),
        *("--require-hashes", "--dest", str(folder), "-r", str(requirements)),
        env={**os.environ, "PYTHONPATH": str(own_pip)},
    )
    return next(folder.glob("*.tar.gz"))


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpacks the sdist and returns its top folder."""
    with tarfile.open(sdist) as archive:
        # Python before 3.10.12 and 3.11.4 has no extraction filters; pip has checked the hash.
        archive.extractall(
            folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
        )
    return next(path.parent for path in folder.glob("*/setup.py"))


def apply_fixes(source: Path) -> None:
    """Applies the fixes and replaces the build files by those of a pure-Python wheel."""
    for fix in FIXES:
        fix.apply(source / "detectron2")
    packages = sorted(
        ".".join(init.parent.relative_to(source).parts)
        for init in (source / "detectron2").rglob("__init__.py")
        if "configs" not in init.parts
    )
    packages += [f"detectron2.projects.{name}" for name in PROJECTS]
    quoted = {
        "packages": ", ".join(f'"{name}"' for name in packages),
        "requirements": ", ".join(f'"{requirement}"' for requirement in REQUIREMENTS),
    }
    for name in ("setup.py", "setup.cfg"):
        (source / name).unlink(missing_ok=True)
    (source / "pyproject.toml").write_text(PYPROJECT.format(version=WHEEL_VERSION, **quoted))


def build_wheel(destination: Path) -> Path:
    """Downloads, fixes and builds Detectron2; returns the path of the wheel."""
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = unpack(download_sdist(folder), folder)
        apply_fixes(source)
        built = folder / "wheel"
        pip(
            *("wheel", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--wheel-dir", str(built), str(source)),
        )
        wheel = next(built.glob("*.whl"))
        return Path(shutil.copy2(wheel, destination / wheel.name))


def installed_version() -> str | None:
    """Returns the version of the installed Detectron2, ``None`` if there is none."""
    code = (
        "import importlib.metadata as m, importlib.util as u\n"
        "if u.find_spec('detectron2'):\n"
        "    try: print(m.version('detectron2'))\n"
        "    except m.PackageNotFoundError: print('of unknown version')\n"
    )
    # In another folder, so that a folder named detectron2 here is not taken for the package.
    return run(sys.executable, "-c", code, cwd=tempfile.gettempdir()).strip() or None


def check_imports() -> None:
    """Imports the parts of Detectron2 that msrcnn uses, in a fresh interpreter."""
    code = ";".join(f"import detectron2.{module}" for module in MODULES)
    run(sys.executable, "-c", code, cwd=tempfile.gettempdir())


def is_own_build(version: str | None) -> bool:
    """Whether a version is one that this script has built."""
    return version is not None and "+msrcnn" in version


def install() -> None:
    """Installs Detectron2 unless it is installed, then checks that it imports."""
    version = installed_version()
    if version == WHEEL_VERSION:
        print(f"detectron2 {version} is installed: nothing to do.")
    elif version is not None and not is_own_build(version):
        print(f"detectron2 {version} was found and is kept: msrcnn uses it as it is.")
    else:
        print(f"Building detectron2 {WHEEL_VERSION} from {SDIST_NAME} {SDIST_VERSION} (PyPI) ...")
        with tempfile.TemporaryDirectory() as temporary:
            wheel = build_wheel(Path(temporary))
            pip("install", "--quiet", "--no-deps", "--force-reinstall", str(wheel))
        print(
            f"Installed detectron2 {WHEEL_VERSION}: pure Python, {len(FIXES)} source fixes "
            f"({', '.join(fix.name for fix in FIXES)})."
        )
    try:
        check_imports()
    except InstallError as error:
        raise InstallError(
            f"detectron2 is installed but cannot be imported.\n{error}\nInstall its requirements "
            "(pip install -e .), or uninstall it (pip uninstall detectron2) and run this again."
        ) from error
    print("Checked: detectron2.{" + ",".join(MODULES) + "} import.")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Install Detectron2 v0.6 from PyPI as a pure-Python package, or keep the "
        "Detectron2 that is already installed."
    )
    parser.add_argument(
        "--wheel-dir",
        metavar="D",
        type=Path,
        help="only build the wheel, into this folder; install nothing",
    )
    args = parser.parse_args()
    try:
        if args.wheel_dir:
            print(f"Wrote {build_wheel(args.wheel_dir)}")
        else:
            install()
    except InstallError as error:
        print(f"install_detectron2: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
