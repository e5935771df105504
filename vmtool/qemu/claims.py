"""What a running VM's QEMU arguments settle of what was asked for. Pure: arguments in, claims out.

The arguments say what the host was asked to start. They contradict a TEE where an ordinary VM was started in the place
of a confidential one; that the hardware protects a guest they never prove: only a report of its own does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vmtool.claims import Claim
from vmtool.qemu.arguments import Arguments, pairs, parse_arguments, properties
from vmtool.tee.table import BY_NAME, NONE
from vmtool.tee.tee import QemuTee, Tee

# What is missing until a guest's report was verified against the reference values of its launch.
UNVERIFIED = "no report of the guest was verified, and nothing else proves a TEE"


def vm_claims(argv: Sequence[str], tee: str, devices: Sequence[str] = (),
              kernels: Collection[str] = (), opened: Sequence[str] = ()) -> tuple[Claim, ...]:
    """Every claim that the arguments can settle.

    Args:
        tee: none, virtcca, snp or tdx.
        devices: PCI addresses that must have been passed on, and no other.
        kernels: the guest kernel of the rendered configuration, by its name there and without links, which is how
            Kata passes it on; empty when none is expected.
        opened: PCI addresses of the devices that QEMU has open itself, for those that its arguments have a descriptor
            of and no address.
    """
    arguments = parse_arguments(argv)
    return (*tee_claims(arguments, tee), _accelerated(arguments), _debugging(arguments),
            _devices(arguments, devices, opened), *([_kernel(arguments, kernels)] if kernels else []))


def tee_claims(arguments: Arguments, tee: str) -> tuple[Claim, ...]:
    """Whether the VM was started in the TEE that was asked for: `tee` is failed or not checked, since arguments prove
    no TEE; `vm.tee` is about the arguments alone."""
    if tee == NONE:
        return (Claim("tee", "failed", "NOT CONFIDENTIAL: none was asked for; root on this host reads everything"),)
    known = BY_NAME[tee]
    problem = _overridden(arguments, known.qemu) or (_machine_kind(arguments, known) if known.qemu.kvm_type else (
        _supported(arguments, known) or _debuggable(arguments, known.qemu)))
    machine = arguments.machine.get("type", "unknown machine")
    if problem:
        why = f"{tee} was asked for, but {problem} (machine {machine})"
        return Claim("tee", "failed", f"NOT CONFIDENTIAL: {why}"), Claim("vm.tee", "failed", why)
    made = arguments.object_of(known.qemu.object) or {}
    kind = f"kvm-type={arguments.machine['kvm-type']}, " if known.qemu.kvm_type else ""
    seen = f"QEMU was started with {kind}-object {known.qemu.object},id={made.get('id', '')} (machine {machine})"
    return Claim("tee", "not-checked", f"{seen}; {UNVERIFIED}"), Claim("vm.tee", "proven", seen)


def _overridden(arguments: Arguments, tee: QemuTee) -> str:
    """What could make another object or machine than the arguments say; libvirt and Kata set other things so."""
    for word in arguments.overrides:
        option, _, value = word.partition(" ")
        what = properties(value).get("type") or value.partition(".")[0]
        if option == "readconfig" or what == tee.object or (option == "set" and what in ("object", "machine")) or (
                option == "global" and (what.endswith("machine") or "machine." in value)):
            return f"-{word} changes what its arguments say"
    return ""


def _machine_kind(arguments: Arguments, tee: Tee) -> str:
    """The patched runtime gives both; QEMU gets no confidential-guest-support there."""
    kind, made = arguments.machine.get("kvm-type", ""), arguments.object_of(tee.qemu.object)
    if kind != tee.qemu.kvm_type and not made:
        return f"QEMU runs an ordinary VM, without {tee.qemu.typical}: a stock shim ignores confidential_guest"
    if kind != tee.qemu.kvm_type:
        return f"its machine has kvm-type={kind}, not {tee.qemu.kvm_type}"
    return "" if made else f"there is no -object {tee.qemu.object}"


def _supported(arguments: Arguments, tee: Tee) -> str:
    """The object must be there, and the machine must use it: an object alone protects nothing."""
    made = arguments.object_of(tee.qemu.object)
    if made is None:
        others = [kind for kind in (item.get("type", "") for item in arguments.objects) if kind.endswith("-guest")]
        return f"QEMU runs {'with -object ' + others[0] if others else 'an ordinary VM'}, without {tee.qemu.typical}"
    used = arguments.machine.get("confidential-guest-support") or arguments.machine.get("memory-encryption")
    return "" if used == made.get("id") else f"its machine does not use the object (confidential-guest-support={used})"


def _debuggable(arguments: Arguments, tee: QemuTee) -> str:
    """Whether the host may debug the guest, by the object's bits or by the property that sets them."""
    made = arguments.object_of(tee.object) or {}
    bits = _number(made.get(tee.debugging, tee.unset))
    if bits is None or bits & tee.debug_bits or made.get("debug") == "on":
        return f"its {tee.debugging} let{'' if tee.debugging.endswith('s') else 's'} the host debug it, and so read it"
    return ""


def _accelerated(arguments: Arguments) -> Claim:
    first = arguments.accelerators[0] if arguments.accelerators else "tcg"
    return Claim("vm.kvm", "proven" if first == "kvm" else "failed", f"accelerator {first}")


def _debugging(arguments: Arguments) -> Claim:
    """QEMU's own debugger, human monitors, its tests' access; QMP (mode=control) is how Kata and libvirt steer it."""
    open_ = [f"-{name} {arguments.plain[name]}".strip() for name in ("gdb", "s", "monitor", "qtest")
             if arguments.plain.get(name, "none") != "none"]
    open_ += [f"-mon mode={mode}" for item in arguments.monitors if (mode := item.get("mode", "readline")) != "control"]
    return Claim("vm.no-debugger", "failed" if open_ else "proven",
                 f"QEMU was started with {', '.join(open_)}" if open_ else "neither -gdb nor -monitor")


def _devices(arguments: Arguments, wanted: Sequence[str], opened: Sequence[str]) -> Claim:
    found = [_address(item.get("host", "") or item.get("sysfsdev", "")) for item in arguments.devices
             if item.get("type", "").startswith("vfio-pci")]
    # Each that has no address is one of those that QEMU has open; with other numbers of them it stays unknown.
    others = sorted(set(opened) - set(found))
    nameless = others if len(others) == found.count("") else ["unknown"] * found.count("")
    passed = sorted([*(address for address in found if address), *nameless])
    reported = f"passed on: {', '.join(passed) or 'nothing'}"
    if passed == sorted(wanted):
        return Claim("vm.devices", "proven", reported)
    return Claim("vm.devices", "failed", f"{reported}; asked for: {', '.join(wanted) or 'nothing'}")


def _address(text: str) -> str:
    """A PCI address with its domain; of a path in sysfs the last part."""
    last = text.rpartition("/")[2].lower()
    return f"0000:{last}" if last.count(":") == 1 else last


def _kernel(arguments: Arguments, wanted: Collection[str]) -> Claim:
    given = arguments.plain.get("kernel", "")
    return Claim("vm.kernel", "proven" if given in wanted else "failed", given or "no -kernel")


def image_claim(argv: Sequence[str], wanted: Collection[str]) -> Claim:
    """Whether the guest's image is the one that was asked for, as a drive, an NVDIMM or an initrd.

    Args:
        wanted: its path, as it was written and without links.
    """
    given = [value for option, text in pairs(argv) for value in _files(option, text)]
    found = next((path for path in given if path in wanted), "")
    return Claim("vm.image", "proven" if found else "failed", found or f"QEMU has {', '.join(given) or 'no image'}")


def _files(option: str, text: str) -> list[str]:
    if option == "initrd":
        return [text]
    if option not in ("drive", "blockdev", "object"):
        return []
    made = properties(text)
    return [made[name] for name in ("file", "filename", "file.filename", "mem-path") if made.get(name)
            and not made[name].startswith("/dev/")]


def params_claim(commandline: str, wanted: str) -> Claim:
    """Whether the guest's kernel was given every word of the configuration's kernel_params.

    Args:
        commandline: of the guest's kernel, as QEMU was given it.
    """
    lacking = [word for word in wanted.split() if word not in commandline.split()]
    reported = f"-append lacks {' '.join(lacking)}" if lacking else f"-append {commandline}"
    return Claim("vm.kernel-params", "failed" if lacking else "proven", reported)


def _number(text: str) -> int | None:
    try:
        return int(text, 0)
    except ValueError:
        return None
