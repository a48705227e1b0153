import re
import subprocess
import sys
import tarfile
import zipfile

import pytest
from conftest import ROOT
from scripts import load_script

installer = load_script("tools/install_detectron2.py")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The pinned sdist from PyPI, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    try:
        sdist = installer.download_sdist(folder)
    except installer.InstallError as error:
        if not re.search("NewConnectionError|name resolution|timed out", str(error)):
            raise  # for example a wrong hash, which is not a missing network
        pytest.skip(f"PyPI cannot be reached: {error}")
    return installer.unpack(sdist, folder)


def copy_of(source, fix, tmp_path):
    path = tmp_path / fix.path
    path.parent.mkdir(parents=True)
    path.write_text((source / "detectron2" / fix.path).read_text())
    return path


@pytest.mark.slow
@pytest.mark.parametrize("fix", installer.FIXES, ids=lambda fix: fix.name)
def test_fix_applies_to_the_real_source(source, fix, tmp_path):
    path = copy_of(source, fix, tmp_path)
    fix.apply(tmp_path)
    fixed = path.read_text()
    assert fix.new in fixed
    compile(fixed, str(path), "exec")
    if fix.old not in fix.new:
        assert fix.old not in fixed


@pytest.mark.parametrize("fix", installer.FIXES, ids=lambda fix: fix.name)
def test_fix_fails_loudly_on_another_source(fix, tmp_path):
    path = tmp_path / fix.path
    path.parent.mkdir(parents=True)
    path.write_text("something else\n")
    with pytest.raises(installer.InstallError, match=f"fix '{fix.name}' expects"):
        fix.apply(tmp_path)
    with pytest.raises(installer.InstallError, match="found 0"):
        fix.apply(tmp_path / "nowhere")


@pytest.mark.slow
def test_wheel_is_pure_python_and_complete(source, tmp_path, monkeypatch):
    # The download is tested by the fixture; here the same source is packed again.
    sdist = tmp_path / "sdist.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        archive.add(source, arcname=source.name)
    monkeypatch.setattr(installer, "download_sdist", lambda folder: sdist)
    wheel = installer.build_wheel(tmp_path / "wheels")
    assert wheel.name == "detectron2-0.6+msrcnn2-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "detectron2/config/config.py",
        "detectron2/model_zoo/configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
        "detectron2/model_zoo/configs/new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py",
        "detectron2/projects/point_rend/__init__.py",
    ):
        assert name in names
    assert any(name.endswith("LICENSE") for name in names)


def test_missing_extension_raises_a_clear_error():
    """Rotated boxes can be imported, and raise an error only when they are used."""
    namespace = {}
    text = installer.OPTIONAL_NATIVE.format(what="rotated box IoU")
    exec(text.replace("from detectron2 import _C", "from detectron2 import _no_such_C"), namespace)
    with pytest.raises(RuntimeError, match="rotated box IoU needs detectron2's C\\+\\+ extension"):
        namespace["_C"].box_iou_rotated  # noqa: B018


def run(monkeypatch, capsys, version):
    monkeypatch.setattr(installer, "installed_version", lambda: version)
    built = []
    monkeypatch.setattr(
        installer, "build_wheel", lambda folder: built.append(1) or folder / "a.whl"
    )
    monkeypatch.setattr(installer, "pip", lambda *args: "")
    monkeypatch.setattr(installer, "check_imports", lambda: None)
    installer.install()
    return bool(built), capsys.readouterr().out


@pytest.mark.parametrize(
    ("version", "builds", "says"),
    [
        (None, True, f"Installed detectron2 {installer.WHEEL_VERSION}"),
        (
            "0.6+msrcnn0",
            True,
            f"Installed detectron2 {installer.WHEEL_VERSION}",
        ),  # an older build of ours
        (installer.WHEEL_VERSION, False, "nothing to do"),
        ("0.6+cu121", False, "detectron2 0.6+cu121 was found and is kept"),
        ("of unknown version", False, "was found and is kept"),
    ],
)
def test_an_installed_detectron2_is_kept(monkeypatch, capsys, version, builds, says):
    built, output = run(monkeypatch, capsys, version)
    assert built == builds
    assert says in output


def test_broken_installation_is_explained(monkeypatch, capsys):
    def fail():
        raise installer.InstallError("No module named 'fvcore'")

    monkeypatch.setattr(installer, "installed_version", lambda: "0.7")
    monkeypatch.setattr(installer, "check_imports", fail)
    with pytest.raises(installer.InstallError, match="cannot be imported") as error:
        installer.install()
    assert "fvcore" in str(error.value)
    assert "pip uninstall detectron2" in str(error.value)


def test_this_environment_passes():
    script = str(ROOT / "tools" / "install_detectron2.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Checked: detectron2.{config,data,engine,evaluation,model_zoo,modeling}" in done.stdout
