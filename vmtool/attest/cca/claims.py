"""What is claimed about a token of Arm CCA or virtCCA."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vmtool.attest.appraisal import (
    Appraisal,
    Check,
    NotChecked,
    NotProven,
    NotRequested,
    appraise,
    compare,
    compare_padded,
    describe,
)
from vmtool.attest.cca.token import PLATFORM_PROFILES, REALM_PROFILES, Platform, Realm, parse_token
from vmtool.attest.cose import verify_sign1
from vmtool.attest.cursor import require
from vmtool.attest.platform_keys import PlatformKey, load_platform_keys
from vmtool.attest.reference import CcaReference
from vmtool.attest.request import Request, require_one_of
from vmtool.frozen import dataclass

NAME, TITLE = "cca", "Arm CCA"


def appraise_cca(data: bytes, request: Request) -> Appraisal:
    """Check a token against the keys of the platforms that are trusted.

    Raises:
        NotProven: it is none.
    """
    token = parse_token(data)
    if token.platform is None:
        raise NotProven("the token lacks the platform's part")
    return appraise(NAME, TITLE, _Checks(token.platform, token.realm, request).all())


@dataclass(frozen=True)
class _Checks:
    platform: Platform
    realm: Realm
    request: Request

    def all(self) -> Iterator[Check]:
        yield "format", self.profile
        yield "platform-signature", self.platform_signature
        yield "debug", lambda: verify_lifecycle(self.platform)
        yield "platform", lambda: verify_platform(self.platform, self.request.reference.cca)
        yield from realm_checks(self.realm, self.platform, self.request, self.request.reference.cca)

    def profile(self) -> str:
        require(self.platform.profile in PLATFORM_PROFILES, f"platform profile {self.platform.profile!r} is unknown")
        require(self.realm.profile in REALM_PROFILES, f"realm profile {self.realm.profile!r} is unknown")
        return self.platform.profile

    def platform_signature(self) -> str:
        keys = load_platform_keys(self.request.roots.keys("cca-"))
        return verify_by_one_of(self.platform, [key for key in keys if key.is_for(self.platform.instance,
                                                                                  self.platform.implementation)])


def verify_by_one_of(platform: Platform, keys: Sequence[PlatformKey]) -> str:
    """One of the keys signed the platform's part.

    Raises:
        NotChecked: there is no key of this platform.
        NotProven: none did.
    """
    if not keys:
        raise NotChecked(f"no key is trusted for the platform {platform.instance.hex()}: --roots DIR")
    reasons = []
    for key in keys:
        try:
            return f"{verify_sign1(platform.message, key.key)}, by the key of {key.name}"
        except Exception as error:
            reasons.append(f"{key.name}: {describe(error)}")
    raise NotProven(f"not signed by a trusted key ({'; '.join(reasons)})")


def verify_lifecycle(platform: Platform) -> str:
    """The platform is in production, and not debugged (draft-ffm-rats-cca-token, 4.5.1.5)."""
    require(0x3000 <= platform.lifecycle <= 0x30ff, f"the platform's lifecycle is {platform.lifecycle:#x}, not secured")
    return f"lifecycle {platform.lifecycle:#x}: secured"


def verify_platform(platform: Platform, reference: CcaReference) -> str:
    """The platform is of an implementation that is expected."""
    shown = f"implementation {platform.implementation.hex()}, {len(platform.software)} measured components"
    if reference.implementation is None and not reference.software:
        raise NotRequested(f"{shown}; nothing to compare with: --reference")
    if reference.implementation is not None:
        compare("implementation", platform.implementation, reference.implementation)
    unknown = [part[2].hex() for part in platform.software if reference.software and part[2] not in reference.software]
    require(not unknown, f"unknown firmware components: {', '.join(unknown)}")
    return shown


def realm_checks(realm: Realm, platform: Platform | None, request: Request, reference: CcaReference) -> Iterator[Check]:
    """What is checked of the guest's part, also of virtCCA."""
    if platform is not None:
        yield "key-binding", lambda: compare("the platform's challenge", platform.challenge, realm.hashed_key())
    yield "signature", lambda: verify_sign1(realm.message, realm.key)
    yield "freshness", lambda: request.fresh("challenge", realm.challenge)
    yield "measurement", lambda: require_one_of("initial measurement", realm.rim, reference.rim)
    yield "extended-measurements", lambda: _verify_rems(realm, reference)
    yield "host-data", lambda: _verify_personalization(realm, reference)


def _verify_rems(realm: Realm, reference: CcaReference) -> str:
    """Where a firmware starts the kernel, only these say which: the initial measurement is then the firmware's."""
    if reference.rim and not reference.rem and any(any(rem) for rem in realm.rems[1:3]):
        raise NotChecked("a firmware started what extended measurements 1 and 2 have, and any kernel has this initial "
                         "measurement: rem must be expected too")
    if not reference.rem:
        raise NotRequested(f"{' '.join(rem.hex() for rem in realm.rems)}; nothing to compare with: --reference")
    require(len(reference.rem) == len(realm.rems), f"{len(reference.rem)} values are expected of {len(realm.rems)}")
    return " ".join(compare(f"extended measurement {number}", found, expected)
                    for number, (found, expected) in enumerate(zip(realm.rems, reference.rem, strict=True)))


def _verify_personalization(realm: Realm, reference: CcaReference) -> str:
    if reference.personalization is None:
        raise NotRequested(f"{realm.personalization.hex()}; nothing to compare with: --reference")
    return compare_padded("personalization value", realm.personalization, reference.personalization)
