"""Programs that fetch and build: what they make is told by what they were asked for."""

from __future__ import annotations

import posixpath
import re
from hashlib import sha256
from typing import TYPE_CHECKING

from tests.fakes.machine.call import Call, done, failed
from tests.fakes.machine.tree import plain
from vmtool.machine import Output

if TYPE_CHECKING:
    from tests.fakes.machine.machine import FakeMachine

UID = 65532


def make(call: Call, out: str, *inputs: str, mode: int = 0o644, what: str = "") -> Output:
    """Write a file that is told by the files that it is made of: empty at first, whole at the end."""
    tree, told = call.machine.tree, sha256(what.encode())
    for each in inputs:
        if not call.machine.exists(each):
            return failed(f"{call.name}: {each}: No such file or directory")
        found = tree.get(each)
        told.update(repr((found.data, found.size)).encode())
    if not tree.find(posixpath.dirname(plain(out))):
        return failed(f"{call.name}: {out}: No such file or directory")
    tree.overwrite(out, b"", mode)
    tree.overwrite(out, f"{call.name}: {told.hexdigest()}".encode(), mode)
    return done()


def mmdebstrap(call: Call) -> Output:
    """A tree or an archive; a hook that downloads /packages.txt gets it."""
    options, (_suite, target, *_) = call.options()
    tree, temporary = call.machine.tree, call.env["TMPDIR"]
    if not tree.find(temporary):
        return failed(f"E: TMPDIR is not a directory: {temporary}")
    tree.make_dir(f"{temporary}/mmdebstrap.work")
    if options.get("--format") == "directory":
        tree.make_dir(f"{target}/usr/bin", parents=0o755)
        tree.write(f"{target}/usr/bin/program", repr(sorted(options.items())).encode(), 0o755)
    else:
        tree.write(target, b"")
        tree.overwrite(target, sha256(repr(sorted(options.items())).encode()).hexdigest().encode(), 0o644)
    for word in call.words:
        if listing := re.search(r"download /packages.txt (\S+)", word):
            tree.write(listing[1], b"Package: base-files\n")
    tree.remove(f"{temporary}/mmdebstrap.work")
    return done()


def dnf(call: Call) -> Output:
    """Packages into --installroot, and what it fetches into its cache, which it makes."""
    options, _ = call.options()
    settings = dict(word.removeprefix("--setopt=").split("=", 1) for word in call.words if "--setopt" in word)
    tree, root = call.machine.tree, options["--installroot"]
    if not tree.find(settings["reposdir"]):
        return failed(f"Error: {settings['reposdir']}: no such directory")
    for place in (settings["cachedir"], f"{root}{settings['cachedir']}", f"{root}/var/lib/dnf"):
        tree.make_dir(place, parents=0o755)
        tree.write(f"{place}/packages.solv", b"what there is", 0o644)
    tree.make_dir(f"{root}/usr/bin", parents=0o755)
    tree.write(f"{root}/usr/bin/program", repr(call.words).encode(), 0o755)
    return done()


def rpm(call: Call) -> Output:
    options, _ = call.options()
    if not call.machine.tree.find(options["--root"]):
        return failed("rpm: no such root")
    return done("rpm base-files 1-1 x86_64 00\n")


def pip(call: Call) -> Output:
    """`download`: a wheel for each locked line, first under another name, as pip does it."""
    options, _ = call.options()
    tree = call.machine.tree
    assert tree.find(call.env["TMPDIR"]), "pip needs its temporary directory"
    lock = posixpath.basename(options["--requirement"])
    target = f"{options['--dest']}/{lock.partition('.')[0]}-1-py3-none-any.whl"
    tree.write(f"{call.env['TMPDIR']}/pip-wheel", b"half")
    tree.write(target, lock.encode())
    tree.unlink(f"{call.env['TMPDIR']}/pip-wheel")
    return done()


def buildah(call: Call) -> Output:
    """Its own storage, whose overlay is mounted on itself while it works; `build`, `push`, `rm --all`, `rmi`."""
    tree, root, run = call.machine.tree, call.value("--root"), call.value("--runroot")
    words = call.words[6:]
    for place in (f"{root}/overlay", f"{run}/overlay-containers"):
        tree.make_dir(place, parents=0o700)
    if words[0] == "build":
        if plain(f"{root}/overlay") not in tree.mounts:
            tree.mounts.append(plain(f"{root}/overlay"))
            call.machine.changed()
        tree.write(f"{root}/working-container", b"")
        context = [(each, tree.get(each).data) for each in tree.below(words[-1])]
        made = sha256(repr((context, words[:-1])).encode()).hexdigest().encode()
        tree.write(f"{root}/image-build", made)
        tree.unlink(f"{root}/working-container")
    elif words[0] == "push":
        target = words[-1].partition(":")[2].partition(":")[0]
        if not tree.find(f"{root}/image-build"):
            return failed(f"Error: {words[-2]}: image not known", 125)
        tree.write(target, b"")
        tree.write(target, f"{words[-1].split(':', 2)[2]}\n".encode())
    elif words[:2] == ("rm", "--all") and tree.find(f"{root}/working-container"):
        tree.unlink(f"{root}/working-container")
    if words[0] != "build" and plain(f"{root}/overlay") in tree.mounts:
        tree.mounts.remove(plain(f"{root}/overlay"))
        call.machine.changed()
    return done()


def docker(call: Call) -> Output:
    """`docker buildx build`: the archive at once."""
    output = dict(pair.split("=", 1) for pair in call.options()[0]["--output"].split(","))
    call.machine.tree.write(output["dest"], b"")
    call.machine.tree.write(output["dest"], f"{output['name']}\n".encode())
    return done()


def train_canary(machine: FakeMachine, place: str) -> None:
    """The trainer in its container, as the image's user."""
    machine.tree.make_dir(f"{place}/model")
    for name in ("config.json", "model.safetensors", "canary.json"):
        machine.tree.write(f"{place}/model/{name}", name.encode(), 0o644, UID)
    machine.tree.set(f"{place}/model", uid=UID)


def collect(call: Call) -> Output:
    """What a trainer left, copied; it has its name at once."""
    tree, order = call.machine.tree, call.order
    tree.make_dir(order["new"], 0o755)
    for name in tree.names(order["source"]):
        tree.write(f"{order['new']}/{name}", tree.read(f"{order['source']}/{name}"), 0o644)
    tree.rename(order["new"], order["target"])
    return done()


def convert_gguf(machine: FakeMachine, place: str) -> None:
    """The converter in its container; what it made is whole with the last file."""
    machine.tree.make_dir(f"{place}/model")
    for name in ("config.json", "model.safetensors", "made-from.txt"):
        machine.tree.write(f"{place}/model/{name}", name.encode(), 0o644, UID)
    machine.tree.set(f"{place}/model", uid=UID)
