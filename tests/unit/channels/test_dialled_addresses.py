"""Which URLs and addresses may be dialled: every spelling that has led somebody inside."""

from ipaddress import ip_address

import pytest

from service.channels.addresses import Reach, is_public, read_url
from service.errors import BadRequest, ConfigurationError

INSIDE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::7f00:1",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2606:4700::5efe:7f00:1",
    "2606:4700::200:5efe:7f00:1",
    "3fff::1",
    "3ffe::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
OUTSIDE = ["1.1.1.1", "8.8.8.8", "93.184.215.14", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001:80f::200e"]

# Spellings that some resolver reads as an address inside, and URLs that two parsers read differently.
ODD_HOSTS = [
    "localhost",
    "localhost.",
    "router",
    "127.1",
    "127.0.1",
    "0",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "0177.0.0.1",
    "127.0.0.01",
    "127.0.0.1.",
    "127.0.0.1%00",
    "127.0.0.1..",
    "127。0。0。1",
    "①②⑦.0.0.1",
    "bücher.example",
    "xn--.",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[::1",
    "a_b.example",
    "-a.example",
    "example.1",
    "example.0x1",
    "",
    ".",
    "a" * 254 + ".example",
]
ODD_URLS = [
    "http://example.com/",
    "HTTP://example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "//example.com/",
    "example.com",
    "https:example.com",
    "https:/example.com",
    "https:///example.com",
    "https://user@example.com/",
    "https://user:word@example.com/",
    "https://example.com@127.0.0.1/",
    "https://127.0.0.1\\@example.com/",
    "https://example.com\\.evil.example/",
    "https://example.com\t/",
    "https://exam\nple.com/",
    " https://example.com/",
    "https://example.com/\r\nHost: inside",
    "https://example.com:22/",
    "https://example.com:25/",
    "https://example.com:65536/",
    "https://example.com:x/",
    "https://example.com:-1/",
    "https://example.com/" + "a" * 2048,
]


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_not_dialled(address: str) -> None:
    assert not is_public(ip_address(address))
    assert not Reach().permits(ip_address(address))


@pytest.mark.parametrize("address", OUTSIDE)
def test_an_address_on_the_internet_is_dialled(address: str) -> None:
    assert Reach().permits(ip_address(address))
    assert Reach().permits(ip_address(address if ":" in address else f"::ffff:{address}"))


@pytest.mark.parametrize("host", ODD_HOSTS)
def test_a_host_of_an_odd_form_is_refused_before_anybody_looks_it_up(host: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        read_url(f"https://{host}/hook", Reach())
    assert refusal.value.param == "url"


@pytest.mark.parametrize("url", ODD_URLS)
def test_a_url_that_is_not_plain_https_is_refused(url: str) -> None:
    with pytest.raises(BadRequest):
        read_url(url, Reach())


def test_a_url_keeps_its_path_as_it_was_written() -> None:
    target = read_url("https://Hooks.Example.COM.:8443/a%2Fb/../c?d=%20e#f", Reach())

    assert (target.host, target.port, target.path) == ("hooks.example.com", 8443, "/a%2Fb/../c?d=%20e")
    assert target.host_header == "hooks.example.com:8443"
    assert read_url("https://example.com?a=b", Reach()).path == "/?a=b"
    assert read_url("https://[2606:4700::1111]", Reach()).host_header == "[2606:4700::1111]"


def test_an_operator_adds_addresses_networks_and_names() -> None:
    reach = Reach.parse("127.0.0.1, 10.0.0.0/8,::1,Receiver", http=True)

    assert all(reach.permits(ip_address(inside)) for inside in ("127.0.0.1", "::ffff:10.1.2.3", "::1"))
    assert not any(reach.permits(ip_address(inside)) for inside in ("127.0.0.2", "192.168.0.1"))
    assert read_url("http://receiver:8080/", reach).port == 8080
    assert read_url("http://127.0.0.1:9000/", reach).host == "127.0.0.1"
    with pytest.raises(BadRequest):
        read_url("http://sender:8080/", reach)


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "10.0.0", "300.0.0.1", "http://receiver"])
def test_an_entry_that_means_nothing_is_refused_with_its_name(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="SLUICE_ALLOW_ADDRESSES"):
        Reach.parse(entry)
