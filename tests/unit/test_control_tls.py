"""TLS at the address on the network: with a certificate that openssl made, and without a usable one not at all."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from musicfs.config.load import load_config
from musicfs.config.models import ControlConfig
from musicfs.control import connections
from tests.support.control import Running, local_origin, running_app
from tests.support.raw import exchange, get, status_of
from tests.unit.test_config import ORIGIN, Write, write  # noqa: F401 (a fixture)

TOKEN = "sixteen letters or more"
BEARER = f"Authorization: Bearer {TOKEN}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for the name nas, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", "/CN=nas", "-addext", "subjectAltName=DNS:nas", "-keyout", key, "-out", cert,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    key.chmod(0o600)
    return cert, key


@asynccontextmanager
async def _running(**control: object) -> AsyncIterator[Running]:
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "a").mkdir()
        config = ControlConfig.model_validate({"listen": "127.0.0.1:0", "token": TOKEN, **control})
        async with running_app(folder, local_origin("a", folder / "a", 0), control=config) as running:
            yield running


def _place(api: Running) -> tuple[str, int]:
    assert api.server.address is not None
    host, _, port = api.server.address.rpartition(":")
    return host, int(port)


def _trusting(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificate[0])
    context.check_hostname = False  # of the loopback's address
    return context


async def test_with_a_certificate_it_speaks_tls_alone(certificate: tuple[Path, Path]) -> None:
    async with _running(tls_cert=certificate[0], tls_key=certificate[1]) as api:
        trusting = _trusting(certificate)
        assert status_of(await exchange(_place(api), get("/status", BEARER), trusting)) == 200
        assert status_of(await exchange(_place(api), get("/status"), trusting)) == 401
        assert status_of(await exchange(_place(api), get("/status", BEARER))) == 0
        with pytest.raises(ssl.SSLCertVerificationError):
            await exchange(_place(api), get("/status"), ssl.create_default_context())
        assert (await api.get("/status"))["pid"]


async def test_with_a_certificate_the_machine_may_be_asked_by_its_name(certificate: tuple[Path, Path]) -> None:
    """The certificate, not the address, shows that the name is right."""
    async with _running(tls_cert=certificate[0], tls_key=certificate[1]) as api:
        trusting = _trusting(certificate)
        for host, status in {"nas:8383": 200, "nas": 200, "evil@nas": 403, "": 403}.items():
            answer = await exchange(_place(api), get("/status", BEARER, host=host), trusting)
            assert status_of(answer) in ({status} if status == 200 else {400, 403}), host


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_versions_of_tls_are_refused(certificate: tuple[Path, Path], version: ssl.TLSVersion) -> None:
    async with _running(tls_cert=certificate[0], tls_key=certificate[1]) as api:
        context = _trusting(certificate)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await exchange(_place(api), get("/status", BEARER), context)


async def test_a_client_that_begins_no_tls_is_closed_and_leaves_no_traceback(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("musicfs.control.server.limits_within", lambda descriptors: connections.Limits(secs=0.2))
    async with _running(tls_cert=certificate[0], tls_key=certificate[1]) as api:
        for sent in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"\x00" * 100):
            assert status_of(await exchange(_place(api), sent)) == 0
        assert status_of(await exchange(_place(api), get("/status", BEARER), _trusting(certificate))) == 200
    assert "Traceback" not in caplog.text


def _swap(cert: Path, key: Path) -> tuple[Path, Path]:
    return key, cert


def _open_to_others(cert: Path, key: Path) -> tuple[Path, Path]:
    copy = key.with_name("open.pem")
    copy.write_bytes(key.read_bytes())
    copy.chmod(0o640)
    return cert, copy


def _with_passphrase(cert: Path, key: Path) -> tuple[Path, Path]:
    locked = key.with_name("locked.pem")
    command: list[str | Path] = ["openssl", "ec", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked]
    subprocess.run(command, check=True, capture_output=True)
    locked.chmod(0o600)
    return cert, locked


def _of_another(cert: Path, key: Path) -> tuple[Path, Path]:
    other = key.with_name("other.pem")
    command: list[str | Path] = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", other]
    subprocess.run(command, check=True, capture_output=True)
    other.chmod(0o600)
    return cert, other


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda cert, key: (cert.with_name("none.pem"), key), "tls_cert .*none.pem can't be read"),
        (lambda cert, key: (cert, key.with_name("none.pem")), "tls_key .*none.pem can't be read"),
        (lambda cert, key: (cert, key.parent), "tls_key .* can't be read"),
        (_open_to_others, "other users can read the key .*`chmod 600 "),
        (_swap, "can't be used|other users can read"),
        (_with_passphrase, "can't be used .*without a passphrase"),
        (_of_another, "can't be used .*KEY_VALUES_MISMATCH"),
    ],
)
async def test_without_a_usable_certificate_nothing_listens_and_one_sentence_says_why(
    certificate: tuple[Path, Path],
    change: Callable[[Path, Path], tuple[Path, Path]],
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cert, key = change(*certificate)
    async with _running(tls_cert=cert, tls_key=key) as api:
        assert api.server.address is None
        assert (await api.get("/status"))["listening"] is None
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info is None
    said = record.getMessage()
    assert re.search(words, said), said
    assert len(said.splitlines()) == 1
    caplog.clear()


def _an_address() -> str:
    """One of this machine that is not the loopback: all of them."""
    with socket.create_server(("0.0.0.0", 0)) as free:
        return f"0.0.0.0:{free.getsockname()[1]}"


async def test_only_without_tls_and_beyond_the_loopback_the_start_warns(
    certificate: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    for settings, warned in (
        ({}, False),
        ({"listen": _an_address()}, True),
        ({"listen": _an_address(), "tls_cert": certificate[0], "tls_key": certificate[1]}, False),
    ):
        caplog.clear()
        async with _running(**settings) as api:
            assert api.server.address is not None
        assert ("is not encrypted" in caplog.text) == warned, settings


def test_the_paths_are_relative_to_the_configuration(write: Write) -> None:  # noqa: F811
    file = write(ORIGIN + '[control]\ntls_cert = "c.pem"\ntls_key = "~/k.pem"\n')
    control = load_config(file).config.control
    assert (control.tls_cert, control.tls_key) == (file.parent / "c.pem", Path("~/k.pem").expanduser())
