"""Where keys and base URLs come from: levels 3 to 5, and who may have a key."""

from pathlib import Path

import pytest

import allm
from allm import EngineError
from allm.environment import PROVIDERS, Environment, environment

OWN = "https://api.openai.com/v1"


def config(tmp_path: Path, name: str, text: str) -> str:
    file = tmp_path / name
    file.write_text(text)
    return str(file)


def test_the_first_of_the_levels_wins(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("OPENAI_API_KEY=from-dotenv\n")
    variables: dict[str, str] = {}
    env = Environment(variables)
    assert env.locate("openai") is None
    assert env.key("openai", OWN) is None
    found: list[tuple[str, str] | None] = []
    env.configure(load_dotenv=dotenv)
    found.append(env.locate("openai"))
    variables["OPENAI_API_KEY"] = "from-variable"
    found.append(env.locate("openai"))
    variables["ALLM_CONFIG"] = config(tmp_path, "allm.toml", '[keys]\nopenai = "from-file"\n')
    found.append(env.locate("openai"))
    env.configure(keys={"openai": "from-configure"})
    found.append(env.locate("openai"))
    env.put("openai", "from-put")
    found.append(env.locate("openai"))
    assert found == [
        (".env (OPENAI_API_KEY)", "from-dotenv"),
        ("OPENAI_API_KEY", "from-variable"),
        ("ALLM_CONFIG", "from-file"),
        ("allm.configure", "from-configure"),
        ("allm.keys", "from-put"),
    ]
    env.put("openai", None)
    env.put("openai", None)
    assert env.key("openai", OWN) == "from-configure"


def test_what_is_configured_replaces_what_was_and_an_empty_key_is_none(tmp_path: Path) -> None:
    env = Environment({"OPENAI_API_KEY": ""})
    env.configure(keys={"openai": "a", "gemini": "b"})
    env.configure(keys={"openai": ""})
    env.configure()
    assert (env.locate("openai"), env.locate("gemini")) == (None, None)


@pytest.mark.parametrize(
    ("provider", "url", "trusted"),
    [
        ("openai", "https://api.openai.com/v1", True),
        ("openai", "https://API.openai.com/v2/other", True),
        ("openai", "https://api.openai.com", True),
        ("openai", "https://api.openai.com:443/v1", True),
        ("openai", "https://user@api.openai.com/v1", True),
        ("anthropic", "https://api.anthropic.com", True),
        ("gemini", "https://generativelanguage.googleapis.com", True),
        ("openai", "http://api.openai.com/v1", False),
        ("openai", "https://api.openai.com:8443/v1", False),
        ("openai", "https://api.openai.com.example.org/v1", False),
        ("openai", "https://example.org/https://api.openai.com/v1", False),
        ("openai", "https://api.openai.com@example.org/v1", False),
        ("openai", "https://example.org?@api.openai.com/v1", False),
        ("openai", "https://example.org#@api.openai.com/v1", False),
        ("openai", "https://example.org\\@api.openai.com/v1", False),
        ("openai", "https://api.anthropic.com/v1", False),
        ("openai", "", False),
        ("mistral", "https://api.mistral.ai/v1", False),
    ],
)
def test_only_the_providers_own_host_gets_a_key(provider: str, url: str, trusted: bool) -> None:
    env = Environment({})
    env.put(provider, "sk-1")
    assert env.key(provider, url) == ("sk-1" if trusted else None)


def test_the_host_that_the_providers_variable_names_gets_the_key_too() -> None:
    env = Environment({"OPENAI_API_KEY": "sk-1", "OPENAI_BASE_URL": "http://localhost:8080/v1/"})
    assert env.base_url("openai") == "http://localhost:8080/v1"
    assert env.key("openai", "http://localhost:8080/other") == "sk-1"
    assert env.key("openai", OWN) == "sk-1"
    assert env.key("openai", "http://localhost:8081/v1") is None


def test_a_base_url_is_what_was_given_or_the_variable_or_the_providers_own() -> None:
    assert Environment({}).base_url("openai") == OWN
    assert Environment({"OPENAI_BASE_URL": ""}).base_url("openai") == OWN
    assert Environment({"OPENAI_BASE_URL": "https://a/"}).base_url("openai") == "https://a"
    assert Environment({"OPENAI_BASE_URL": "https://a/"}).base_url("openai", "https://b/v1/") == "https://b/v1"
    assert Environment({}).base_url("fake") == ""
    assert Environment({}).base_url("fake", "https://c/") == "https://c"


def test_a_base_url_may_come_from_the_env_file(tmp_path: Path) -> None:
    file = tmp_path / "my.env"
    file.write_text("OPENAI_BASE_URL=https://from-dotenv/v1\n")
    env = Environment({})
    env.configure(load_dotenv=str(file))
    assert env.base_url("openai") == "https://from-dotenv/v1"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("OPENAI_API_KEY=sk-1", "sk-1"),
        ("export OPENAI_API_KEY=sk-1", "sk-1"),
        ("  OPENAI_API_KEY = sk-1  ", "sk-1"),
        ('OPENAI_API_KEY="sk-1"', "sk-1"),
        ("OPENAI_API_KEY='sk-1'", "sk-1"),
        ("OPENAI_API_KEY='sk #1'", "sk #1"),
        ('OPENAI_API_KEY="sk-1" # the key', "sk-1"),
        ("OPENAI_API_KEY=sk-1 # the key", "sk-1"),
        ("OPENAI_API_KEY=sk#1", "sk#1"),
        ("OPENAI_API_KEY=a=b", "a=b"),
        ("OPENAI_API_KEY=$HOME", "$HOME"),
        ("OPENAI_API_KEY='sk-1", "'sk-1"),
        ('OPENAI_API_KEY=""', None),
        ("OPENAI_API_KEY=", None),
        ("OPENAI_API_KEY", None),
        ("# OPENAI_API_KEY=sk-1", None),
        ("export # OPENAI_API_KEY=sk-1", None),
        ("\ufeffOPENAI_API_KEY=sk-1", "sk-1"),
    ],
)
def test_an_env_file_is_read_line_by_line(tmp_path: Path, line: str, value: str | None) -> None:
    file = tmp_path / ".env"
    file.write_text(f"{line}\nOTHER=x\n\n", encoding="utf-8")
    env = Environment({})
    env.configure(load_dotenv=file)
    assert env.key("openai", OWN) == value


def test_the_env_file_of_the_working_directory_is_read_only_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-1")
    env = Environment({})
    env.configure()
    assert env.locate("openai") is None
    env.configure(load_dotenv=True)
    assert env.key("openai", OWN) == "sk-1"


def test_a_missing_env_file_is_empty(tmp_path: Path) -> None:
    env = Environment({})
    env.configure(load_dotenv=tmp_path / "none.env")
    assert env.locate("openai") is None


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", '{"keys": {"openai": "sk-1"}}'), ("a.toml", '[keys]\nopenai = "sk-1"'), ("a.conf", '[keys]\nopenai = "sk-1"')],
)
def test_the_file_that_allm_config_names_is_toml_or_json(tmp_path: Path, name: str, text: str) -> None:
    env = Environment({"ALLM_CONFIG": config(tmp_path, name, text)})
    assert env.locate("openai") == ("ALLM_CONFIG", "sk-1")
    assert env.locate("gemini") is None


def test_another_config_file_is_read_when_it_is_named(tmp_path: Path) -> None:
    variables = {"ALLM_CONFIG": config(tmp_path, "a.toml", '[keys]\nopenai = "one"')}
    env = Environment(variables)
    assert env.key("openai", OWN) == "one"
    variables["ALLM_CONFIG"] = config(tmp_path, "b.toml", "other = 1")
    assert env.key("openai", OWN) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", '{"keys": '), ("a.json", "[1]"), ("a.json", '{"keys": "sk-secret"}'), ("a.toml", "= sk-secret"), ("missing/a.toml", None)],
)
def test_a_bad_config_file_is_named_and_its_contents_are_not(tmp_path: Path, name: str, text: str | None) -> None:
    path = config(tmp_path, name, text) if text is not None else str(tmp_path / name)
    with pytest.raises(EngineError, match="ALLM_CONFIG names") as caught:
        Environment({"ALLM_CONFIG": path}).locate("openai")
    assert caught.value.reason == "bad_config"
    assert name in caught.value.message
    assert "secret" not in caught.value.message
    assert caught.value.__cause__ is None


def test_the_places_are_told_for_people() -> None:
    places = Environment({}).places("openai")
    for place in ("api_key=", "keys=", "allm.keys.put('openai', ...)", "allm.configure(keys=...)", "ALLM_CONFIG", "OPENAI_API_KEY"):
        assert place in places
    assert "None" not in Environment({}).places("mistral")


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_an_environment_tells_whether_it_names_a_proxy(name: str) -> None:
    assert Environment({name: "http://127.0.0.1:3128"}).names_proxy()
    assert not Environment({"NO_PROXY": "*"}).names_proxy()


def test_an_environment_shows_no_key() -> None:
    env = Environment({"OPENAI_API_KEY": "sk-secret"})
    env.put("openai", "sk-secret")
    assert "secret" not in repr(env)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_provider_has_a_variable_for_its_key(provider: str) -> None:
    origin = PROVIDERS[provider]
    env = Environment({origin.key_variable: "sk-1"})
    assert env.key(provider, env.base_url(provider)) == "sk-1"
    assert env.locate(provider) == (f"{provider.upper()}_API_KEY", "sk-1")


# The process's own


def test_keys_source_says_where_a_key_would_come_from_and_never_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ALLM_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    sources = [allm.keys.source("openai")]
    try:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
        sources.append(allm.keys.source("openai"))
        allm.configure(keys={"openai": "sk-secret"})
        sources.append(allm.keys.source("openai"))
        allm.keys.put("openai", "sk-secret")
        sources.append(allm.keys.source("openai"))
    finally:
        allm.keys.put("openai", None)
        allm.configure(keys={})
    assert sources == [None, "OPENAI_API_KEY", "allm.configure", "allm.keys"]
    assert environment.locate("openai") == ("OPENAI_API_KEY", "sk-secret")
