"""A line for each command of vmtool, to be typed where a stranger's code lies in wait."""

from __future__ import annotations

from collections.abc import Iterator

import click

# None changes anything of the machine's but the files of the test that types it.
LINES = """\
token add x a
token list a
token apply a
token revoke x a
ca show
metrics
metrics a
ca export
ca renew
doctor --json
doctor --for kata
plan spec.yaml
run spec.yaml --dry-run
run spec.yaml
ps
status a
logs a
exec a -- id
events a
top
start a
upgrade a
stop a
watch --install --dry-run
rm a
recover
chat a hello
token add b a
token list a
token apply a
token revoke b a
image build vllm-cpu --dry-run
image build ./own --dry-run
image import archive.tar --dry-run
image list
image rm x
rootfs build rootfs-minimal --dry-run
rootfs build ./own --dry-run
rootfs resize guest.img +64M
rootfs inspect guest.img
rootfs verify guest.img
rootfs boot guest.img --dry-run
rootfs add driver guest.img --package p --dry-run
rootfs add file guest.img /etc/x spec.yaml --dry-run
rootfs add hook guest.img --dry-run
rootfs add package guest.img p --dry-run
model canary model --dry-run
gpu list
gpu status
gpu bind --all --dry-run
gpu release --all --dry-run
gpu cc-mode set off --dry-run
gpu cc-mode show
kata check kata.toml
kata keys memory
kata render spec.yaml
kata which
libvirt render spec.yaml
spec example runc
spec explain spec.model
spec schema
completion bash
attest verify spec.yaml
attest challenge spec.yaml -o asked --roots .
attest reference spec.yaml
attest evidence https://127.0.0.1:1 -o asked.json
connect https://127.0.0.1:1 --policy spec.yaml --check
connect --make-policy spec.yaml
key generate -o model.key
key generate --sign -o sign.key
key show model.key
key export-public sign.key
key serve spec.yaml --check
model encrypt weights -o sealed --key model.key --sign sign.key
model smollm2 smollm2 --dry-run
model rewrap sealed --key model.key --new-key other.key --sign sign.key
model inspect weights --signer spec.yaml
model verify weights --signer spec.yaml
""".splitlines()
# In a network namespace of their own.
NET_LINES = ("net add a --publish 8080:80", "net show", "net check a", "net reset a", "net del a")


def leaves(command: click.Command, *words: str) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found
            yield from leaves(found, *words, name)
    else:
        yield " ".join(words)
