"""A stranger's folder, home and environment: whatever is loaded, started or obeyed of them leaves a line in a file."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.integration.machine import VMTOOL

BINARIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/lib/cni")
PACKAGES = ("vmtool", "pip", "click", "pydantic", "pydantic_core", "yaml", "jinja2", "pyudev", "libvirt", "guestfs",
            "nvidia_gpu_tools", "usercustomize", "sitecustomize")
# Loaded by name after the start of a Python, by it or by what it starts.
LIBRARIES = ("libudev.so.1", "libcrypto.so.3", "libssl.so.3", "libffi.so.8", "libvirt.so.0", "libguestfs.so.0",
             "libxtables.so.12", "libelf.so.1", "libext2fs.so.2", "trap.so")
LIBRARY = """
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
__attribute__((constructor)) static void sprung(void)
{
    char text[600], line[500];
    int size, from = open("/proc/self/cmdline", O_RDONLY), to = open(SPRUNG, O_WRONLY | O_CREAT | O_APPEND, 0600);
    size = read(from, line, sizeof line - 1);
    for (int at = 0; at < size; at++) line[at] = line[at] ? line[at] : ' ';
    line[size > 0 ? size : 0] = 0;
    size = snprintf(text, sizeof text, "library in %d: %s\\n", (int)getpid(), line);
    if (write(to, text, size) < 0) _exit(99);
}
"""
# Configuration that names a program, of whatever looks for it in a home or where a variable says.
SETTINGS = {
    ".config/pip/pip.conf": "[global]\npython = {trap}\n", ".pip/pip.conf": "[global]\npython = {trap}\n",
    ".netrc": "default login x password y\n", ".pydistutils.cfg": "[install]\nprefix={folder}\n",
    ".config/containers/containers.conf": '[engine]\nruntime = "{trap}"\nhelper_binaries_dir = ["{folder}/bin"]\n',
    ".config/containers/storage.conf": '[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\n',
    ".docker/config.json": '{{"credsStore": "trap"}}', ".rpmmacros": "%_tmppath %(touch {sprung}.rpm)\n",
    ".gitconfig": "[core]\nfsmonitor = {trap}\n", ".bashrc": "{trap}\n", ".profile": "{trap}\n",
    ".bash_env": "{trap}\n", ".startup.py": "import os; os.system({trap!r})\n",
    ".config/libvirt/libvirt.conf": 'uri_default = "test+ssh://trap/"\n',
    ".config/mmdebstrap": "{trap}\n", ".gnupg/gpg.conf": "photo-viewer {trap}\n",
    "openssl.cnf": "openssl_conf = x\n[x]\nengines = y\n[y]\nz = w\n[w]\ndynamic_path = {folder}/lib/trap.so\n"
                   "init = 1\n",
    "apt.conf": 'APT::Update::Pre-Invoke {{"{trap}";}};\n',
}


@dataclass(frozen=True)
class Traps:
    """Laid in `folder`, which is also the home; `sprung` collects what went off."""

    folder: Path
    sprung: Path

    @property
    def environment(self) -> dict[str, str]:
        """Everything that makes Python, the loader and the programs that vmtool knows look into the folder."""
        home, trap, nowhere = str(self.folder), str(self.folder / "bin/trap"), str(self.folder / "nowhere")
        return {
            **dict.fromkeys((
                "SHELL", "EDITOR", "PAGER", "LESSOPEN", "GIT_SSH", "GIT_EXTERNAL_DIFF", "GIT_ASKPASS", "PIP_PYTHON",
                "PYTHONBREAKPOINT", "LIBGUESTFS_HV", "SUPERMIN_KERNEL", "MANPAGER"), trap),
            **dict.fromkeys((
                "CNI_PATH", "CNI_CONF_DIR", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_DATA_HOME", "XDG_DATA_DIRS",
                "LIBGUESTFS_PATH", "GCONV_PATH", "PYTHONPATH", "DOCKER_CONFIG", "GIT_EXEC_PATH", "GIT_TEMPLATE_DIR",
                "QEMU_MODULE_DIR", "OPENSSL_ENGINES", "OPENSSL_MODULES", "LOCPATH", "NLSPATH", "PYTHONUSERBASE"), home),
            **dict.fromkeys((
                "CONTAINERD_ADDRESS", "CONTAINERD_NAMESPACE", "DOCKER_HOST", "LIBVIRT_DEFAULT_URI", "TMPDIR", "TMP",
                "TEMP", "LIBGUESTFS_TMPDIR", "PYTHONHOME"), nowhere),
            "PATH": f".:bin:{home}/bin:/usr/bin:/bin", "HOME": home, "LD_PRELOAD": f"{home}/lib/trap.so",
            "LD_LIBRARY_PATH": f"{home}/lib", "OPENSSL_CONF": f"{home}/openssl.cnf",
            "PIP_CONFIG_FILE": f"{home}/.pip/pip.conf", "NETRC": f"{home}/.netrc", "APT_CONFIG": f"{home}/apt.conf",
            "PYDANTIC_DISABLE_PLUGINS": "", "PYTHONWARNINGS": "error::json.Trap", "PYTHONINSPECT": "",
            "PYTHONSTARTUP": f"{home}/.startup.py", "BASH_ENV": f"{home}/.bash_env", "ENV": f"{home}/.bash_env",
            "CONTAINERS_CONF": f"{home}/.config/containers/containers.conf", "GIT_CONFIG_GLOBAL": f"{home}/.gitconfig",
            "BASH_FUNC_vmtool%%": f"() {{ {trap}; }}",
        }

    def went_off(self) -> list[str]:
        """What went off, but for the loader's own in the very process that a person starts: it comes before all."""
        lines = self.sprung.read_text().splitlines() if self.sprung.exists() else []
        return [line for line in lines if not (line.startswith("library in ") and f" {VMTOOL} " in f"{line} ")]


def lay(folder: Path, sprung: Path) -> Traps:
    """Fill a folder with traps: modules, programs, libraries, settings."""
    # Without open(), which a Python does not have yet when it loads its first modules.
    module = (f"import posix\nto = posix.open({str(sprung)!r}, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND)\n"
              "posix.write(to, f'module {__name__}\\n'.encode('ascii'))\n")
    site = folder / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    users = folder / ".local" / site.relative_to(folder)
    for place in (site, users):
        place.mkdir(parents=True)
        (place / "usercustomize.py").write_text(module)
        (place / "trap.pth").write_text(f"import sys; exec({module!r})\n")
    for name in (*(name for name in sys.stdlib_module_names if not name.startswith("_")), *PACKAGES):
        (folder / f"{name}.py").write_text(module)
    for name in PACKAGES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(module)
    for name, text in SETTINGS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.format(folder=folder, trap=folder / "bin/trap", sprung=sprung))
    lay_programs(folder, sprung)
    return Traps(folder, sprung)


def lay_programs(folder: Path, sprung: Path) -> None:
    """A program of every name that this machine has, here and in bin/; and libraries."""
    (folder / "bin").mkdir()
    trap = folder / "bin" / "trap"
    trap.write_text(f'#!/bin/dash\nPATH=/usr/bin:/bin\necho "program $0 $*" >> {sprung}\n')
    trap.chmod(0o755)
    names = {name for place in BINARIES if os.path.isdir(place) for name in os.listdir(place)}
    for name in {*names, "pip", "python", "containerd-shim-kata-v2", "docker-credential-trap"}:
        for place in (folder / "bin" / name, folder / name):
            if not place.exists():
                place.symlink_to(trap)
    source = folder / "trap.c"
    source.write_text(LIBRARY)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", f'-DSPRUNG="{sprung}"', "-o", str(folder / "lib/trap.so"),
                    str(source)], check=True, timeout=60)
    for name in LIBRARIES:
        if not (folder / "lib" / name).exists():
            (folder / "lib" / name).symlink_to(folder / "lib/trap.so")
