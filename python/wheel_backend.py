"""Builds the wheel of the module bitstrata: the hooks of PEP 517 over CMake, without other packages.

    pip wheel . --no-deps                                              # configures and builds in build-wheel/
    pip wheel . --no-deps --config-settings=build-dir=build            # takes what a build folder has

CMake does the work (the component `wheel` of python/CMakeLists.txt); here its files get the names, the metadata and the list of hashes that
make them a wheel. The wheel fits the Python that runs this, and machines with the same system libraries (fmt, oneDNN, Highway, Zstandard).
"""

import base64
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile

SOURCE = pathlib.Path(__file__).resolve().parent.parent


def _run(*command):
    try:
        subprocess.run([str(word) for word in command], check=True)
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is missing: install CMake 3.25 or newer")
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"the wheel cannot be built: {' '.join(map(str, command))} has ended with {error.returncode}")


def _configured(settings):
    """The build folder, configured for this Python unless it has been configured before."""
    folder = pathlib.Path((settings or {}).get("build-dir", SOURCE / "build-wheel"))
    if not (folder / "CMakeCache.txt").exists():
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        off = [f"-DBITSTRATA_{part}=OFF" for part in ("TOOLS", "TESTS", "BENCH")]
        _run("cmake", "-S", SOURCE, "-B", folder, *generator, "-DCMAKE_BUILD_TYPE=Release", f"-DPython_EXECUTABLE={sys.executable}", *off)
    return folder


def _metadata_folder(folder):
    found = list((folder / "python").glob("bitstrata-*.dist-info"))
    if len(found) != 1:
        raise SystemExit(f"{folder}: found no Python module in this build, expected one: install the headers of {sys.executable} and pybind11")
    return found[0]


def _add_wheel_file(dist_info):
    # The interpreters that the module loads into, and the machines: this Python, on this kind of machine.
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    tag = f"{python}-{python}-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
    (dist_info / "WHEEL").write_text(f"Wheel-Version: 1.0\nGenerator: bitstrata\nRoot-Is-Purelib: false\nTag: {tag}\n")
    return tag


def _pack(stage, dist_info, path):
    """Zips the files of `stage` in a fixed order and with a fixed time, then RECORD, which has the hash of each."""
    record = ""

    def add(archive, name, data, executable=False):
        entry = zipfile.ZipInfo(name)  # 1980-01-01
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = (0o100755 if executable else 0o100644) << 16
        archive.writestr(entry, data)

    part = path.with_name(path.name + ".part")
    with zipfile.ZipFile(part, "w") as archive:
        for file in sorted(stage.rglob("*")):
            if not file.is_file():
                continue
            name, data = file.relative_to(stage).as_posix(), file.read_bytes()
            add(archive, name, data, file.suffix == ".so")
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(data)}\n"
        own = f"{dist_info.name}/RECORD"
        add(archive, own, record + f"{own},,\n")
    os.replace(part, path)


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    source = _metadata_folder(_configured(config_settings))
    target = pathlib.Path(metadata_directory) / source.name
    shutil.copytree(source, target)
    _add_wheel_file(target)
    return target.name


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    folder = _configured(config_settings)
    dist_info = _metadata_folder(folder)
    _run("cmake", "--build", folder, "--parallel", os.cpu_count() or 1, "--target", "bitstrata_wheel")
    with tempfile.TemporaryDirectory() as temporary:
        stage = pathlib.Path(temporary)
        _run("cmake", "--install", folder, "--prefix", stage, "--component", "wheel", "--strip")
        module = stage / "bitstrata" / f"_runtime{sysconfig.get_config_var('EXT_SUFFIX')}"
        if not module.exists():
            raise SystemExit(f"{folder}: found a module for another Python, expected {module.name}: use another build-dir")
        tag = _add_wheel_file(stage / dist_info.name)
        name = f"{dist_info.name.removesuffix('.dist-info')}-{tag}.whl"
        _pack(stage, dist_info, pathlib.Path(wheel_directory) / name)
    return name


def build_sdist(sdist_directory, config_settings=None):
    raise SystemExit("there is no source distribution apart from the repository: build the wheel in a clone")
