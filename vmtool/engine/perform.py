"""Doing one action. Each noun's module is imported when its first action is done: most plans need few of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

from vmtool import plan as p
from vmtool.errors import VerificationFailed
from vmtool.host import daemons, files, processes


def perform(action: p.Action, log: IO[str], note: Callable[[str], None]) -> None:  # noqa: C901 (one flat case per kind)
    """Do one action.

    Raises:
        VmtoolError: it failed.
    """
    # The journal can be replayed by a version with the same vocabulary only, so an exhaustive match is the contract.
    match action:
        case p.Run():
            _run(action, log)
        case p.Expect():
            _expect(action, log)
        case p.StartDaemon():
            daemons.start(action)
        case p.StopDaemon():
            daemons.stop(action)
        case p.NotePid():
            daemons.note(action.pidfile)
        case p.MakeDir():
            files.make_dir(action.path, mode=action.mode, uid=action.uid)
        case p.WriteFile():
            files.write(action.path, action.text, mode=action.mode)
        case p.CopySecret():
            files.copy_secret(action.path, action.source, action.uid)
        case p.Remove():
            files.remove(action.path)
        case p.CallPlugin() | p.RemoveBridge() | p.RemoveChain() | p.SweepChains():
            _network(action, log)
        case p.WriteSysfs() | p.ExpectDriver():
            _device(action, log)
        case p.AwaitFree():
            from vmtool.gpu import vfio_in_use

            vfio_in_use.await_free(action)
        case p.AwaitHealth() | p.AskCanary():
            _serving(action, note)
        case p.ExpectTee() | p.EndGuest():
            _guest(action)
        case p.EndTask():
            from vmtool.containerd import shims

            shims.end_task(action, log)
        case p.AskGuest():
            from vmtool.libvirt import guest_agent

            guest_agent.ask(action, note)


def _network(action: p.CallPlugin | p.RemoveBridge | p.RemoveChain | p.SweepChains, log: IO[str]) -> None:
    from vmtool.net import chains, plugin_exec

    match action:
        case p.CallPlugin():
            plugin_exec.call(action, log)
        case p.RemoveBridge():
            plugin_exec.remove_bridge(action.name, log)
        case p.RemoveChain():
            chains.remove(action.table, action.chain, log)
        case p.SweepChains():
            chains.sweep(action, log)


def _device(action: p.WriteSysfs | p.ExpectDriver, log: IO[str]) -> None:
    from vmtool.gpu import sysfs_writes

    if isinstance(action, p.WriteSysfs):
        sysfs_writes.write(action, log)
    else:
        sysfs_writes.expect(action)


def _run(action: p.Run, log: IO[str]) -> None:
    result = processes.run(action.argv, deadline=action.deadline, env=action.env, stdin=action.stdin,
                           stdout=action.stdout, log=log)
    if not any(text in result.out + result.err for text in action.gone):
        processes.check(action.argv, result, action.hint)


def _expect(action: p.Expect, log: IO[str]) -> None:
    result = processes.run(action.argv, deadline=action.deadline, log=log)
    processes.check(action.argv, result)
    if action.line not in result.out.splitlines():
        raise VerificationFailed(f"{' '.join(action.argv)}: the line {action.line!r} is missing", hint=action.hint)


def _serving(action: p.AwaitHealth | p.AskCanary, note: Callable[[str], None]) -> None:
    from vmtool.endpoint import client

    if isinstance(action, p.AwaitHealth):
        client.await_health(action, note)
    else:
        client.ask_canary(action)


def _guest(action: p.ExpectTee | p.EndGuest) -> None:
    from vmtool.qemu import running_guest

    if isinstance(action, p.ExpectTee):
        running_guest.expect_tee(action)
    else:
        running_guest.end_guest(action)
