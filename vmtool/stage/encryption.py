"""The encrypted model that is served: that it is one, and what the entrypoint found when it opened it."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.claims import Claim
from vmtool.findings import Finding, wrong_input
from vmtool.instance.instance import Instance
from vmtool.machine import Reader
from vmtool.serving.encrypted.vllm_arguments import LOAD_FORMAT
from vmtool.serving.events import read_events
from vmtool.stage.launch import Launch, Stage

# Of the log: the model is opened before the engine says anything.
LOG = 1 << 20


class EncryptionStage(Stage):
    """Refuses what is no encrypted model, or has no key, before anything is changed."""

    def check(self, launch: Launch) -> Iterator[Finding]:
        for key, text, hint in launch.encrypted.problems if launch.encrypted else ():
            yield wrong_input("launch.encrypted", text, hint, place=f"spec.model.{key}")
        chosen, handler = launch.body.hardening.chosen, launch.body.runtime.handler
        if chosen.name != "strict" and (handler == "libvirt" or (chosen.host_ipc and handler != "runc")):
            yield wrong_input("launch.hardening", f"{chosen.name} is a profile of containers, and a guest of {handler} "
                              "shares no memory with this host", "write profile: strict",
                              place="spec.hardening.profile")

    def claims(self, reader: Reader, instance: Instance, *, whole: bool) -> Iterator[Claim]:
        from vmtool.spec.facts import find_own_spec  # slow to import, and only a look at a launch needs it

        spec = find_own_spec(reader, instance.paths.spec)
        if spec is None or spec.spec.model.encryption is None:
            return
        piece = reader.piece(str(instance.paths.log), 0, LOG)
        events = list(read_events(piece.data.decode(errors="replace"))) if piece else []
        opened = next((event for event in events if event["event"] == "model-opened"), None)
        if opened is None:
            yield Claim("model.signature", "not-checked", "the entrypoint has not said that it opened the model")
            yield Claim("model.encrypted", "not-checked", "the entrypoint has not said that it opened the model")
            return
        wanted, found = spec.spec.model.encryption.digest, str(opened.get("manifest", ""))[:64]
        which = f"; the manifest is sha256:{found}, as the spec has it" if wanted else ""
        yield Claim("model.signature", "proven" if found == wanted else "failed", "the entrypoint checked manifest and "
                    f"headers: signed by {str(opened.get('signer'))[:140]}{which}")
        how = f"every one encrypted with {str(opened.get('algorithm'))[:20]}; load format {LOAD_FORMAT}"
        yield Claim("model.encrypted", "proven",
                    f"{opened.get('tensors')} tensors in {opened.get('files')} files, {how}")
