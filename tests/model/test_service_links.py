"""Variables of Kubernetes' Services are recognized by their names, and an address by its form."""

import pytest

from bot.model.service_links import describe_links, find_service_links, is_service_address

PREFIX = "R2_CREDENTIAL_"


def links_of(service: str, port: int = 3000) -> dict[str, str]:
    """Return what a kubelet sets for a Service with one named port."""
    address = f"tcp://10.96.0.1:{port}"
    return {
        f"{service}_SERVICE_HOST": "10.96.0.1",
        f"{service}_SERVICE_PORT": str(port),
        f"{service}_SERVICE_PORT_HTTP": str(port),
        f"{service}_PORT": address,
        f"{service}_PORT_{port}_TCP": address,
        f"{service}_PORT_{port}_TCP_PROTO": "tcp",
        f"{service}_PORT_{port}_TCP_PORT": str(port),
        f"{service}_PORT_{port}_TCP_ADDR": "10.96.0.1",
    }


@pytest.mark.parametrize("service", ["R2_CREDENTIAL", "R2_CREDENTIAL_BOT", "R2_CREDENTIAL_HTTP"])
def test_all_variables_of_a_service_are_found(service: str) -> None:
    """Whatever it is called."""
    links = {name: value for name, value in links_of(service).items() if name.startswith(PREFIX)}
    assert find_service_links({"PATH": "/bin", "R2_CREDENTIAL_TTL": "1h", **links}, PREFIX) == sorted(links)
    assert find_service_links(links_of("OTHER"), PREFIX) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("R2_CREDENTIAL_HTTP_PORT", "3000"),
        ("R2_CREDENTIAL_HTTP_HOST", "10.96.0.1"),
        ("R2_CREDENTIAL_SERVICE", "tcp://10.96.0.1:80"),
        ("R2_CREDENTIAL_PORT", "tcp://a name"),
        ("R2_CREDENTIAL_PORT_80_HTTP", "80"),
    ],
)
def test_other_variables_are_not_of_a_service(name: str, value: str) -> None:
    """A misspelt setting stays one."""
    assert find_service_links({name: value}, PREFIX) == []


@pytest.mark.parametrize("value", ["tcp://10.0.0.1:80", "udp://[fd00::1]:53", "sctp://10.0.0.1:9"])
def test_an_address_is_recognized(value: str) -> None:
    """IPv4 and IPv6, of each protocol."""
    assert is_service_address(value)


def test_one_line_says_it_for_all() -> None:
    """With what to do about it."""
    assert describe_links(["A"]) == (
        "A: come from Services in Kubernetes and are ignored; set enableServiceLinks: false in the pod's spec"
    )
    assert describe_links(["A", "B", "C"]).startswith("A and 2 more: come from Services")
