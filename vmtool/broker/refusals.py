"""The answer to a guest that is refused: the types and statuses of Trustee. The reason is in the audit file alone."""

from __future__ import annotations

ERRORS = "https://github.com/confidential-containers/kbs/errors/"
# Everything that is no wrong path is 401, as of Trustee; but for the floods that it does not know.
STATUSES = {"InvalidRequestPath": 404, "PluginNotFound": 404, "RateLimited": 429}


class KbsRefusal(Exception):
    """A request that goes no further.

    Args:
        kind: Trustee's name of the error.
        detail: of the answer to the guest.
        why: what is audited; the same when left out.
        status: of HTTP, where it is not the kind's own.
    """

    def __init__(self, kind: str, detail: str, why: object = "", status: int = 0) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.why = kind, detail, why or detail
        self.status = status or STATUSES.get(kind, 401)

    def values(self) -> dict[str, str]:
        """As JSON values."""
        return {"type": f"{ERRORS}{self.kind}", "detail": self.detail}


def attestation_error(why: object, detail: str = "Attestation error: evidence was not accepted") -> KbsRefusal:
    """Evidence, or what comes with it, is not what it should be."""
    return KbsRefusal("AttestationError", detail, why)


def no_session() -> KbsRefusal:
    """There is no cookie, or one of a session that is unknown, over or used."""
    return KbsRefusal("TokenNotFound", "Attestation Token not found", "no such session")
