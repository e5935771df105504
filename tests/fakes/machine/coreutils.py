"""Programs on files, in the words of coreutils 9.1."""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

from tests.fakes.machine.call import Call, done, failed
from tests.fakes.machine.tree import Inode, Tree, plain
from vmtool.machine import Output

SUFFIXES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def trying(work: Callable[[Call], Output]) -> Callable[[Call], Output]:
    """What the kernel refuses the program tells, with its name first."""
    def do(call: Call) -> Output:
        try:
            return work(call)
        except OSError as error:
            return failed(f"{call.name}: {error.filename}: {error.strerror}")

    return do


def no_stat(call: Call, path: str) -> Output:
    """What most programs say of a file that is not there."""
    number = errno.ENOTDIR if _through_file(call.machine.tree, path) else errno.ENOENT
    return failed(f"{call.name}: cannot stat '{path}': {os.strerror(number)}")


def _through_file(tree: Tree, path: str) -> bool:
    parent = tree.find(posixpath.dirname(plain(path)))
    return bool(parent and parent.kind == "file")


@trying
def mv(call: Call) -> Output:
    """With --no-target-directory always: the planners name the target itself."""
    options, (source, target) = call.options()
    tree = call.machine.tree
    if "--no-target-directory" not in options and (there := tree.find(target)) and there.kind == "dir":
        target = f"{target}/{posixpath.basename(source)}"
    moved, there = tree.find(source), tree.find(target)
    if not moved:
        return no_stat(call, source)
    if there is moved:
        return failed(f"mv: '{source}' and '{target}' are the same file")
    if there and there.kind == "dir" and moved.kind != "dir":
        return failed(f"mv: cannot overwrite directory '{target}' with non-directory")
    try:
        tree.rename(source, target)
    except OSError as error:
        return failed(f"mv: cannot move '{source}' to '{target}': {error.strerror}")
    return done()


@trying
def ln(call: Call) -> Output:
    options, (source, target) = call.options()
    tree = call.machine.tree
    linked, there = tree.find(source), tree.find(target)
    if not linked:
        return failed(f"ln: failed to access '{source}': No such file or directory")
    if there and there is not linked and "--force" not in options:
        return failed(f"ln: failed to create hard link '{target}': File exists")
    tree.put(target, linked)
    return done()


@trying
def cp(call: Call) -> Output:
    """Files only; the last word may be a directory."""
    options, paths = call.options()
    tree, target = call.machine.tree, paths.pop()
    there = tree.find(target)
    into = bool(there and there.kind == "dir") and "--no-target-directory" not in options
    for source in paths:
        try:
            copied = tree.get(source)
        except OSError:
            return no_stat(call, source)
        place = f"{target}/{posixpath.basename(source)}" if into else target
        made = replace(copied) if "--preserve" in options else replace(copied, uid=0)
        if "--attributes-only" in options:
            made.data, made.size = b"", None
        if "--remove-destination" in options and tree.find(place):
            tree.unlink(place)
        # A copy is written piece by piece.
        tree.put(place, replace(made, data=b"", size=None))
        tree.put(place, made)
    return done()


@trying
def install(call: Call) -> Output:
    """Files into a directory with -D, or one file."""
    options, words = call.options()
    tree = call.machine.tree
    mode = int(options.get("--mode") or call.value("-m"), 8)
    words = [word for word in words if word != call.value("-m")]
    directory = options.get("--target-directory")
    if directory:
        tree.make_dir(directory, 0o755, parents=0o755)
    target = directory or words.pop()
    for source in words:
        try:
            data = tree.read(source)
        except OSError:
            return no_stat(call, source)
        tree.write(f"{target}/{posixpath.basename(source)}" if directory else target, data, mode)
    return done()


@trying
def truncate(call: Call) -> Output:
    options, (path,) = call.options()
    tree, size = call.machine.tree, options["--size"]
    found = tree.find(path)
    if not found:
        tree.write(path, b"")
        found = tree.get(path)
    found.size = int(size.rstrip("KMG")) * SUFFIXES.get(size[-1], 1)
    call.machine.changed()
    return done()


@trying
def chmod(call: Call) -> Output:
    mode, path = call.words
    if not call.machine.tree.find(path):
        return failed(f"chmod: cannot access '{path}': No such file or directory")
    call.machine.tree.set(path, mode=int(mode, 8))
    return done()


@trying
def chown(call: Call) -> Output:
    """`--recursive --no-dereference root:root PATH`."""
    path, tree = call.words[-1], call.machine.tree
    if not tree.find(path):
        return failed(f"chown: cannot access '{path}': No such file or directory")
    for each in (path, *tree.below(path)):
        tree.set(each, uid=0)
    return done()


@trying
def rmdir(call: Call) -> Output:
    options, paths = call.options()
    tree = call.machine.tree
    for path in paths:
        if call.machine.cgroups.pop(path, None):
            call.machine.changed()
            continue
        if not tree.find(path):
            return failed(f"rmdir: failed to remove '{path}': No such file or directory")
        if not tree.below(path):
            tree.unlink(path)
        elif "--ignore-fail-on-non-empty" not in options:
            return failed(f"rmdir: failed to remove '{path}': Directory not empty")
    return done()


def umount(call: Call) -> Output:
    (path,) = call.words
    tree = call.machine.tree
    if plain(path) in tree.mounts:
        tree.mounts.remove(plain(path))
        call.machine.changed()
        return done()
    if not tree.find(path):
        return failed(f"umount: {path}: no mount point specified.", 32)
    return failed(f"umount: {path}: not mounted.", 32)


def ls(call: Call) -> Output:
    (path,) = call.words
    if not call.machine.tree.find(path):
        return failed(f"ls: cannot access '{path}': No such file or directory", 2)
    return done("".join(f"{name}\n" for name in call.machine.tree.names(path) if not name.startswith(".")))


@trying
def sha256sum(call: Call) -> Output:
    (path,) = call.words
    return done(f"{sha256(call.machine.tree.read(path)).hexdigest()}  {path}\n")


@trying
def tar(call: Call) -> Output:
    """An archive is what goes into it, by name."""
    options, words = call.options()
    tree, file = call.machine.tree, options["--file"]
    if "--extract" in options:
        tree.read(file)
        for name in ("etc", "usr", "var"):
            tree.make_dir(f"{options['--directory']}/{name}")
        tree.write(f"{options['--directory']}/etc/os-release", tree.read(file))
        return done()
    before = tree.read(file) if "--append" in options else b""
    tree.put(file, Inode("file", data=before))
    tree.put(file, Inode("file", data=before + f"{options['--directory']} {' '.join(words)}\n".encode()))
    return done()


@trying
def stat(call: Call) -> Output:
    """`--format=%d:%i`: hard links are one file."""
    words, files = call.options()
    assert words == {"--format": "%d:%i"}, words
    found = [call.machine.tree.find(file) for file in files]
    return done("".join(f"1:{id(one)}\n" for one in found if one))


def mkdir(call: Call) -> Output:
    """Of cgroups only."""
    call.machine.cgroups.setdefault(call.words[-1], "max")
    call.machine.changed()
    return done()


def tee(call: Call) -> Output:
    """Into a cgroup's files only."""
    directory, file = posixpath.split(call.words[0])
    if file == "pids.max":
        call.machine.cgroups[directory] = call.stdin.decode()
        call.machine.changed()
    return done(call.stdin.decode())
