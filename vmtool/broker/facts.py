"""Reading the broker's configuration, with the files that it names; every mistake at once, with its place."""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.serialization import Encoding

from vmtool import documents
from vmtool.attest.facts import read_files, read_roots
from vmtool.attest.reference import MEASURED, Reference, read_reference, sections
from vmtool.attest.request import Collateral, Roots
from vmtool.attest.sort_collateral import sort_collateral
from vmtool.broker.release import ReleaseRules, Rule
from vmtool.broker.spec import BrokerSpec, ReleasePolicy, ResourceSpec
from vmtool.errors import Refused, VmtoolError, shell_word
from vmtool.host.safe_open import open_regular
from vmtool.machine import Reader
from vmtool.serving.access_list import Certificates
from vmtool.serving.encrypted.process import keep_memory
from vmtool.spec.load import validated
from vmtool.tls.authority import Pair
from vmtool.tls.given import MOST_BYTES, read_pair
from vmtool.tls.plan import OWN

MOST_RESOURCE = 64 << 10
T = TypeVar("T")
Issue = Callable[[Sequence[str]], Pair]
DOCS = "docs/encrypted-models.md shows a whole one"


def read_release(reader: Reader, path: Path, listen: str | None = None, issue: Issue | None = None) -> ReleaseRules:
    """Everything that the broker serves by.

    Args:
        listen: address and port in place of the file's.
        issue: makes a certificate of vmtool's own CA for some names; None where there is no such CA.

    Raises:
        Refused: every mistake at once, each with file, line and key.
    """
    document = documents.read(path)
    if not isinstance(document.value, dict):
        raise Refused(f"{path}: not a mapping", hint=DOCS)
    spec = validated(document, BrokerSpec)
    return _Reading(document, spec, reader, path.absolute().parent, issue).release(listen)


def read_resource(path: Path) -> bytes:
    """The bytes of a resource; its file is its owner's alone, and so is the memory of this process from then on.

    Raises:
        Refused: others may read it, it is empty or too large, or no regular file.
        OSError: it cannot be read.
    """
    keep_memory()
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        data = file.read(MOST_RESOURCE + 1)
    if mode & 0o077:
        raise Refused(f"its mode is {mode:04o}, so others may read it", hint=f"chmod 600 {shell_word(path)}")
    if not 0 < len(data) <= MOST_RESOURCE:
        raise Refused(f"it has no bytes, or more than {MOST_RESOURCE >> 10} KiB")
    return data


class _Reading:
    """One configuration being read."""

    def __init__(self, document: documents.Document, spec: BrokerSpec, reader: Reader, directory: Path,
                 issue: Issue | None) -> None:
        self.document, self.spec, self.reader, self.directory, self.issue = document, spec, reader, directory, issue
        self.problems: dict[documents.Place, str] = {}

    def release(self, listen: str | None) -> ReleaseRules:
        spec = self.spec
        address = self._tried(("listen",), lambda: self._address(listen or spec.listen), ("", 0))
        certificates = self._tried(("tls",), lambda: self._certificates(address[0]), None)
        roots = self._tried(("roots",), lambda: read_roots(
            self.reader, self._at(spec.roots) if spec.roots else None), Roots({}))
        collateral = self._tried(("collateral",), self._collateral, Collateral())
        rules = {name: self._rule(("resources", name), each) for name, each in spec.resources.items()}
        if self.problems:
            lines = [self.document.line(place, problem) for place, problem in self.problems.items()]
            raise Refused(f"{self.document.path}: {len(lines)} problem{'s' if len(lines) > 1 else ''}", details=lines,
                          hint=DOCS)
        return ReleaseRules(address, certificates, self._at(spec.audit), roots, collateral, spec.limits, rules,
                            lambda: self._certificates(address[0]))

    def _tried(self, place: documents.Place, read: Callable[[], T], instead: T) -> T:
        try:
            return read()
        except VmtoolError as error:
            self.problems[place] = "; ".join((error.message, *error.details))
        except (ValueError, OSError) as error:
            self.problems[place] = str(error)
        return instead

    def _at(self, path: Path) -> Path:
        return self.directory / path.expanduser()

    def _address(self, text: str) -> tuple[str, int]:
        host, _, port = text.rpartition(":")
        address = ipaddress.ip_address(host.strip("[]"))
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"{port!r} is no port")
        if not address.is_loopback and not self.spec.tls.on:
            raise ValueError(f"{host} is reached from elsewhere: that takes tls, with certificate and key")
        return str(address), int(port)

    def _certificates(self, address: str) -> Certificates | None:
        tls = self.spec.tls
        if tls.clients:
            raise ValueError("guests have no certificates: what they show is evidence")
        if tls.in_guest:
            raise ValueError("guests know the broker by its certificate: source: ca, or files")
        if tls.source == "ca":
            if self.issue is None:
                raise ValueError("there is no CA of vmtool's own here")
            reached = [address] if address and not ipaddress.ip_address(address).is_unspecified else []
            pair = self.issue((*tls.names, *reached, *OWN))
            given = read_pair(lambda: pair.certificate, lambda: pair.key, datetime.now(UTC))
        elif tls.certificate and tls.key:
            certificate, key = self._at(tls.certificate), self._at(tls.key)
            given = read_pair(lambda: self._bytes(certificate), lambda: self._bytes(key), datetime.now(UTC))
        else:
            return None
        return Certificates(tuple(each.public_bytes(Encoding.DER) for each in given.chain), given.key)

    def _bytes(self, path: Path) -> bytes:
        with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
            return file.read(MOST_BYTES)

    def _collateral(self) -> Collateral:
        found = sort_collateral(read_files(self.reader, [self._at(each) for each in self.spec.collateral]))
        if found.problems:
            raise ValueError("; ".join(found.problems))
        return found

    def _rule(self, place: documents.Place, each: ResourceSpec) -> Rule:
        file, policy = self._at(each.file), each.policy
        self._tried((*place, "file"), lambda: read_resource(file), b"")
        reference = self._tried((*place, "policy", "reference"), lambda: self._reference(policy), None)
        if policy.is_sample and not self.spec.allow_unconfidential:
            self.problems[*place, "policy", "tee"] = (
                "sample proves nothing: it takes allow_unconfidential: true at the top of this file")
        return Rule(file, policy, reference)

    def _reference(self, policy: ReleasePolicy) -> Reference | None:
        if policy.reference is None:
            return None
        found = read_reference(self._at(policy.reference))
        for tee in policy.tee:
            if missing := [f"{tee}.{key}" for key in MEASURED[tee] if not getattr(getattr(found, tee), key)]:
                raise ValueError(f"{policy.reference} has no {', '.join(missing)}: any such {tee} guest would get it")
        if "nvidia" in sections(found) and not policy.gpu:
            raise ValueError(f"{policy.reference} has values for nvidia, and the policy asks for no GPU: gpu: true")
        return found
