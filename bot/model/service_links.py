"""Variables that Kubernetes sets in each pod for each Service of its namespace, some with the names of settings.

https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
"""

import re
from collections.abc import Collection, Mapping
from typing import Final

FIX: Final = "set enableServiceLinks: false in the pod's spec"

_NAME: Final = re.compile(
    r"(.+?)_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_ADDRESS: Final = re.compile(r"(?:tcp|udp|sctp)://[0-9a-f.:\[\]]+")


def is_service_address(value: str) -> bool:
    """Return whether this is what Kubernetes puts into NAME_PORT for a Service called `name`."""
    return _ADDRESS.fullmatch(value) is not None


def find_service_links(variables: Mapping[str, str], prefix: str) -> list[str]:
    """Return the names with this prefix that come from Services, in order."""
    ours = sorted(name for name in variables if name.startswith(prefix))
    return [
        name
        for name in ours
        if _NAME.fullmatch(name) or (name.endswith("_PORT") and is_service_address(variables[name]))
    ]


def describe_links(names: Collection[str]) -> str:
    """Return one line for all of these names, of which there is at least one."""
    first, *others = names
    more = f" and {len(others)} more" if others else ""
    return f"{first}{more}: come from Services in Kubernetes and are ignored; {FIX}"
