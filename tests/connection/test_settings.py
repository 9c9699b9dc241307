"""What the user said about the connection."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fiftyone_milvus.connection import CREDENTIALS, Settings, resolve
from fiftyone_milvus.errors import InvalidInputError
from tests.support.warm import WARM


def brain_config(variables: dict[str, str], file: dict[str, Any]) -> dict[str, Any]:
    """What FiftyOne and then our settings make of environment variables and a config file."""
    environment = dict(os.environ)
    for name, value in variables.items():
        environment[f"FIFTYONE_BRAIN_SIMILARITY_MILVUS_{name}"] = value
    path = Path(environment["FIFTYONE_BRAIN_CONFIG_PATH"]).with_name(f"{os.urandom(4).hex()}.json")
    path.write_text(json.dumps({"similarity_backends": {"milvus": file}}))
    environment["FIFTYONE_BRAIN_CONFIG_PATH"] = str(path)
    script = (
        "import dataclasses, json, fiftyone.brain as fob\n"
        "from fiftyone_milvus.connection import Settings\n"
        "values = fob.brain_config.similarity_backends['milvus']\n"
        "print('RESULT' + json.dumps(dataclasses.asdict(Settings.parse(values))))\n"
    )
    done = WARM.run(script, env=environment)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.split("RESULT", 1)[1])
    return result


def test_environment_and_file_are_read_as_written() -> None:
    variables = {"PASSWORD": "a,b", "SECURE": "true", "DB_NAME": "1e5", "SERVER_NAME": "True"}
    settings = brain_config(variables, {"user": 123456, "password": "file", "uri": "http://h:1"})
    assert settings["user"] == "123456"
    assert settings["password"] == "a,b"
    assert settings["secure"] is True
    assert settings["db_name"] == "1e5"
    assert settings["server_name"] == "True"
    assert settings["uri"] == "http://h:1"
    assert settings["token"] is None


@pytest.mark.parametrize("password", ["123456", "0123", "1_0", "1.50", "nan", " 12 ", "a,1,,b"])
def test_cast_passwords(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fiftyone.brain.config import _parse_env_value

    value = _parse_env_value(password)
    assert not isinstance(value, str)
    monkeypatch.setenv("FIFTYONE_BRAIN_SIMILARITY_MILVUS_PASSWORD", password)
    assert Settings.parse({"user": "root", "password": value}).password == password


def test_a_given_value_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIFTYONE_BRAIN_SIMILARITY_MILVUS_PASSWORD", "0123")
    assert Settings.parse({"user": "root", "password": "123"}).password == "123"
    assert Settings.parse({"user": "root", "password": 124}).password == "124"


@pytest.mark.parametrize("name", ["user", "password", "token", "uri", "db_name"])
@pytest.mark.parametrize("value", [1.5, ["secret"], {"a": "secret"}, True])
def test_other_types_are_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidInputError, match=rf"'{name}' must be a string") as error:
        Settings.parse({name: value})
    if name in ("password", "token"):
        assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("value", "secure"),
    [
        (True, True),
        ("true", True),
        ("1", True),
        (1, True),
        ("YES", True),
        (None, None),
        ("", None),
        (False, False),
        ("False", False),
        (0, False),
        ("no", False),
    ],
)
def test_secure(value: object, secure: bool | None) -> None:
    assert Settings.parse({"secure": value}).secure is secure


def test_secure_that_is_neither() -> None:
    with pytest.raises(InvalidInputError, match="true or false, got 'maybe'"):
        Settings.parse({"secure": "maybe"})


@pytest.mark.parametrize(
    ("uri", "shown", "expected"),
    [
        ("http://root:s%40crt@h:1", "http://h:1", {"user": "root", "password": "s@crt"}),
        ("https://key@h", "https://h", {"token": "key"}),
        ("root:pw@h:1", "http://h:1", {"user": "root", "password": "pw"}),
        ("http://h:1/films/", "http://h:1", {"db_name": "films"}),
        ("http://[::1]:1", "http://[::1]:1", {}),
        ("/data/a@b.db", "/data/a@b.db", {}),
        ("unix:/run/milvus.sock", "unix:/run/milvus.sock", {}),
    ],
)
def test_credentials_leave_the_uri(uri: str, shown: str, expected: dict[str, str]) -> None:
    settings = Settings.parse({"uri": uri})
    assert settings.uri == shown
    for name in CREDENTIALS[1:]:
        assert getattr(settings, name) == expected.get(name), name


def test_what_is_given_by_name_wins_over_the_uri() -> None:
    settings = Settings.parse({"uri": "http://root:old@h:1/films", "token": "new"})
    assert (settings.user, settings.password, settings.token) == (None, None, "new")
    assert settings.db_name == "films"
    assert Settings.parse({"uri": "http://h:1/films", "db_name": "books"}).db_name == "books"


@pytest.mark.parametrize("uri", ["http://root:s3cret@:1", "http://root:s3cret@h:port", "http://"])
def test_unreadable_uris(uri: str) -> None:
    with pytest.raises(InvalidInputError, match="is not an address of Milvus") as error:
        Settings.parse({"uri": uri})
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"user": "root"}, "a 'user' but no 'password'"),
        ({"password": "s3cret"}, "a 'password' but no 'user'"),
        ({"client_pem_path": "/c.pem"}, "'client_pem_path' but no 'client_key_path'"),
        ({"client_key_path": "/c.key"}, "'client_key_path' but no 'client_pem_path'"),
        ({"client_pem_path": "/c", "client_key_path": "/k"}, "but no 'ca_pem_path'"),
    ],
)
def test_half_of_a_pair(values: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as error:
        Settings.parse(values)
    assert "s3cret" not in str(error.value)


def test_nothing_secret_is_shown() -> None:
    settings = Settings.parse({"user": "u", "password": "s3cret", "token": "t0ken"})
    assert "s3cret" not in repr(settings)
    assert "t0ken" not in repr(settings)


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.parse({"ca_pem_path": Path("ca.pem")}).ca_pem_path == str(tmp_path / "ca.pem")


def test_other_names_are_ignored() -> None:
    assert Settings.parse({"config_cls": "x", "metric": "cosine"}) == Settings()


@pytest.mark.parametrize(
    ("uri", "address", "host", "port", "local"),
    [
        ("http://[::1]:19531", "http://[::1]:19531", "::1", 19531, True),
        ("http://[::1]", "http://[::1]:19530", "::1", 19530, True),
        (
            "https://me:s3cret@[2001:DB8::7]/films",
            "https://[2001:db8::7]:443",
            "2001:db8::7",
            443,
            False,
        ),
        ("me:s3cret@[fe80::1%eth0]:1", "http://[fe80::1%eth0]:1", "fe80::1%eth0", 1, False),
    ],
)
def test_ipv6(uri: str, address: str, host: str, port: int, local: bool) -> None:
    target = resolve(Settings.parse({"uri": uri}), None)
    assert (target.deployment, target.address) == ("server", address)
    assert (target.host, target.port, target.local) == (host, port, local)
    assert target.settings.password == ("s3cret" if "@" in uri else None)
    assert target.settings.db_name == ("films" if "films" in uri else None)


@pytest.mark.parametrize(
    "uri", ["http://[::1", "http://::1:19530", "http://[no]:1", "http://[::1]x"]
)
def test_what_is_no_ipv6_address(uri: str) -> None:
    with pytest.raises(InvalidInputError, match="is not an address of Milvus") as error:
        resolve(Settings.parse({"uri": uri}), None)
    assert "\n" not in str(error.value)
