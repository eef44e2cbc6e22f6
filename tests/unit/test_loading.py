# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings: four layers, one table, every fault at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.config import SETTINGS, Config, ConfigError, Setting
from quorate.loading import file_of, ignored, load


def flags(**given: str) -> Config:
    """The settings that flags alone give; `_` stands for `-`."""
    named = {name.replace("_", "-"): text for name, text in given.items()}
    return load(flags=named, environment={}, file=None)


def faults(**given: str) -> list[str]:
    """What is wrong with the flags."""
    with pytest.raises(ConfigError) as raised:
        flags(**given)
    return raised.value.faults


def toml(tmp_path: Path, text: str) -> Path:
    """A settings file."""
    path = tmp_path / "quorate.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    ["dns:", "dns:a..b", "dns:a:x", "dns:a:0", "dns:_q._tcp.a:80", "a", "ftp://a:1", "mdns:x"],
)
def test_what_names_no_way_to_find_nodes_is_a_fault_that_says_what_to_write(text: str) -> None:
    with pytest.raises(ConfigError, match=r"-discover: .*(write|least)"):
        load(flags={"discover": text}, environment={}, file=None)


@pytest.mark.parametrize("others", [{}, {"nodes": "a:1", "discover": "mdns"}])
def test_founders_are_expected_where_they_find_each_other_and_no_list_names_them(
    others: dict[str, str],
) -> None:
    with pytest.raises(ConfigError, match="-expect: it is for nodes that find each other"):
        load(flags={"expect": "3", **others}, environment={}, file=None)


def test_a_stun_server_is_for_a_node_that_is_to_find_out_its_address() -> None:
    flags = {"stun": "127.0.0.1:1", "advertise": "http://127.0.0.1:8000"}
    with pytest.raises(ConfigError, match=r"-stun: -advertise=\S+ leaves nothing to ask"):
        load(flags=flags, environment={}, file=None)
    config = load(flags={"stun": "127.0.0.1:1"}, environment={}, file=None)
    assert (config.stun, config.advertise) == ("127.0.0.1:1", "auto")
    with pytest.raises(ConfigError, match="has no port"):
        load(flags={"stun": "127.0.0.1", "advertise": "auto"}, environment={}, file=None)


def test_nothing_given_means_the_defaults() -> None:
    assert flags() == Config()


def test_a_flag_wins_over_the_environment_which_wins_over_the_file(tmp_path: Path) -> None:
    file = toml(tmp_path, 'port = 1\nheartbeat = "1s"\ncluster = "file"\n')
    environment = {"QUORATE_HEARTBEAT": "3s", "QUORATE_CLUSTER": "environment"}
    config = load(flags={"cluster": "flag"}, environment=environment, file=file)
    assert (config.port, config.heartbeat_ms, config.cluster) == (1, 3_000, "flag")


def test_every_field_has_exactly_one_flag() -> None:
    fields = [setting.field for setting in SETTINGS if setting.field]
    assert sorted(fields) == sorted(Config.__struct_fields__)


def test_the_default_that_help_shows_is_the_fields_wherever_it_is_a_value() -> None:
    words = {"listen", "advertise", "advertise-client", "stun", "discover", "nodes", "W", "R"}
    words |= {"data", "config", "secret-file", "tls", "tls-cert", "tls-key", "tls-ca", "peer-names"}
    words |= {"join", "token-file", "users"}
    for setting in SETTINGS:
        if setting.name in words:
            assert " " in setting.default or setting.default in ("./quorate-data/<port>", "none")
        else:
            assert setting.parse(setting.default) == getattr(Config(), setting.field)


def test_the_defaults_that_help_shows_have_units() -> None:
    shown = {setting.name: setting.default for setting in SETTINGS}
    assert [shown[name] for name in ("port", "heartbeat", "cache-bytes", "allow-flush")] == [
        *("8000", "2s", "64MiB", "false")
    ]


EXAMPLES = {
    "port": ("81", 81),
    "listen": ("0.0.0.0:8000", "0.0.0.0:8000"),
    "advertise": ("http://a:1/", "http://a:1"),
    "advertise-client": ("a:1", "http://a:1"),
    "stun": ("stun.example.org:3478", "stun.example.org:3478"),
    "nodes": ("http://a:1, http://b:2/", ("http://a:1", "http://b:2")),
    "discover": ("mdns, dns:_q._tcp.kv, a:1", ("mdns", "dns:_q._tcp.kv", "http://a:1")),
    "expect": ("3", 3),
    "cluster": ("blue", "blue"),
    "users": ("users.toml", "users.toml"),
    "replication": ("5", 5),
    "W": ("3", 3),
    "R": ("1", 1),
    "heartbeat": ("500ms", 500),
    "down-after": ("5", 5),
    "timeout": ("1m30s", 90_000),
    "write-wait": ("0s", 0),
    "zone": ("rack-7", "rack-7"),
    "weight": ("2", 2),
    "grow-after": ("0s", 0),
    "repair-rate": ("4MiB", 4 << 20),
    "max-clock-skew": ("250ms", 250),
    "cache-size": ("0", 0),
    "cache-bytes": ("1MiB", 1 << 20),
    "data": ("/var/lib/quorate", "/var/lib/quorate"),
    "engine": ("memory", "memory"),
    "durability": ("os", "os"),
    "old-disk": ("refill", "refill"),
    "value-max": ("1MB", 1_000_000),
    "hint-max": ("1GiB", 1 << 30),
    "connections-max": ("7", 7),
    "idle-timeout": ("5m", 300_000),
    "inflight-max": ("8", 8),
    "inflight-bytes": ("9MiB", 9 << 20),
    "reply-bytes": ("64MiB", 64 << 20),
    "allow-flush": ("true", True),
    "insecure": ("true", True),
    "join": ("a:1,b:2", ("http://a:1", "http://b:2")),
    "token-file": ("t", "t"),
    "secret-file": ("s", "s"),
    "tls": ("off", "off"),
    "tls-cert": ("c", "c"),
    "tls-key": ("k", "k"),
    "tls-ca": ("a", "a"),
    "peer-names": ("*.N.test, m.test", ("*.n.test", "m.test")),
    "loop": ("asyncio", "asyncio"),
    "log-level": ("debug", "debug"),
    "log-format": ("json", "json"),
}

BESIDE = {
    "tls-cert": {"tls-key": "k"},
    "tls-key": {"tls-cert": "c"},
    "tls-ca": {"secret-file": "s"},
    "peer-names": {"tls-ca": "a", "secret-file": "s"},
    "expect": {"discover": "mdns"},
    "token-file": {"join": "a:1"},
}
"""What has to be given with a setting."""
IMPLIED: dict[str, dict[str, object]] = {
    "expect": {"discover": ("mdns",)},
    "stun": {"advertise": "auto"},
    "join": {"nodes": ("http://a:1", "http://b:2")},
    "token-file": {"nodes": ("http://a:1",), "join": ("http://a:1",)},
}
"""What a setting, with what it needs, means for others."""


@pytest.mark.parametrize(
    "setting", [each for each in SETTINGS if each.field], ids=lambda each: each.name
)
def test_a_setting_can_be_given_as_flag_alias_variable_and_toml_key(
    setting: Setting, tmp_path: Path
) -> None:
    text, value = EXAMPLES[setting.name]
    beside = BESIDE.get(setting.name, {})
    given = {name.replace("-", "_"): text for name, text in beside.items()}
    fields: dict[str, Any] = {**given, **IMPLIED.get(setting.name, {}), setting.field: value}
    expected = msgspec.structs.replace(Config(), **fields)
    variable = "QUORATE_" + setting.name.upper().replace("-", "_")
    for name in (setting.name, *setting.aliases):
        assert load(flags={name: text, **beside}, environment={}, file=None) == expected
    assert load(flags=beside, environment={variable: text}, file=None) == expected
    file = toml(tmp_path, f"{setting.name} = '{text}'")
    assert load(flags=beside, environment={}, file=file) == expected


def test_the_seeds_names_and_short_names_mean_the_same() -> None:
    assert flags(rep="2", hb="1s", cache="5", w="2", r="1") == flags(
        replication="2", heartbeat="1s", cache_size="5", W="2", R="1"
    )


def test_toml_may_use_its_own_numbers_switches_and_lists(tmp_path: Path) -> None:
    file = toml(tmp_path, 'port = 81\nallow-flush = true\nnodes = ["a:1", "http://b:2"]\n')
    config = load(flags={}, environment={}, file=file)
    assert (config.port, config.allow_flush) == (81, True)
    assert config.nodes == ("http://a:1", "http://b:2")


@pytest.mark.parametrize("value", ["1.5", "[1, 2]", "2020-01-01", "{a = 1}"])
def test_a_toml_value_that_no_flag_could_have_is_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"quorate.toml: port: write a string, a whole number"):
        load(flags={}, environment={}, file=toml(tmp_path, f"port = {value}"))


def test_urls_are_normalised_and_each_is_kept_once_in_its_order() -> None:
    nodes = flags(nodes=" http://b:2/, http://A:1,,b:2 , http://a:1//").nodes
    assert nodes == ("http://b:2", "http://a:1")


def test_a_bad_url_among_good_ones_is_refused() -> None:
    assert faults(nodes="http://a:1,nonsense") == [
        "-nodes: 'nonsense' has no port: write http://nonsense:8000"
    ]


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load(flags={}, environment={"QUORATE_ADVERTISE": ""}, file=None) == Config()


def test_variables_of_others_are_let_be() -> None:
    environment = {
        "PORT": "1",
        "QUORATE_TARGET": "x",
        "QUORATE_COMPILE": "1",
        "QUORATE_CONFIG": "x",
    }
    assert load(flags={}, environment=environment, file=None) == Config()
    assert ignored(environment) == {}


@pytest.mark.parametrize("service", ["QUORATE", "QUORATE_NODES", "QUORATE_PORTAL"])
def test_what_kubernetes_sets_for_a_service_is_ignored_with_the_reason(service: str) -> None:
    link = "tcp://10.96.0.12:8000"
    environment = {
        f"{service}_SERVICE_HOST": "10.96.0.12",
        f"{service}_SERVICE_PORT": "8000",
        f"{service}_SERVICE_PORT_HTTP": "8000",
        f"{service}_PORT": link,
        f"{service}_PORT_8000_TCP": link,
        f"{service}_PORT_8000_TCP_PROTO": "tcp",
        f"{service}_PORT_8000_TCP_PORT": "8000",
        f"{service}_PORT_8000_TCP_ADDR": "10.96.0.12",
    }
    assert load(flags={}, environment=environment, file=None) == Config()
    assert ignored(environment) == dict.fromkeys(environment, "set by Kubernetes for a Service")


def test_a_port_that_is_none_of_kubernetes_is_the_setting() -> None:
    assert load(flags={}, environment={"QUORATE_PORT": "9000"}, file=None) == Config(port=9000)
    with pytest.raises(ConfigError, match=r"^QUORATE_PORT: 'http://a:1' is no whole number$"):
        load(flags={}, environment={"QUORATE_PORT": "http://a:1"}, file=None)


@pytest.mark.parametrize(
    ("variable", "near"),
    [("DURABLITY", "DURABILITY"), ("LOGLEVEL", "LOG_LEVEL"), ("DATA_DIR", "DATA")],
)
def test_a_mistyped_variable_is_refused_with_the_nearest_valid_name(
    variable: str, near: str
) -> None:
    environment = {f"QUORATE_{variable}": "x"}
    with pytest.raises(ConfigError) as caught:
        load(flags={}, environment=environment, file=None)
    assert caught.value.faults == [
        f"QUORATE_{variable}: no such setting; did you mean QUORATE_{near}?"
    ]
    assert ignored(environment) == {}


def test_a_variable_like_no_setting_is_ignored_with_the_reason() -> None:
    environment = {"QUORATE_VERSION": "1.0", "QUORATE_EMPTY": ""}
    assert load(flags={}, environment=environment, file=None) == Config()
    assert ignored(environment) == {"QUORATE_VERSION": "no such setting"}


@pytest.mark.parametrize(("name", "near"), [("prot", "port"), ("replicaton", "replication")])
def test_an_unknown_flag_is_refused_with_the_nearest_valid_name(name: str, near: str) -> None:
    assert faults(**{name: "1"}) == [f"-{name}: no such flag; did you mean -{near}?"]


def test_who_gives_the_secret_itself_is_told_of_its_file_and_never_of_insecure(
    tmp_path: Path,
) -> None:
    assert faults(secret="x") == ["-secret: no such flag; did you mean -secret-file?"]
    (tmp_path / "q.toml").write_text("secret = 'x'\n")
    with pytest.raises(ConfigError, match="secret: no such setting; did you mean secret-file"):
        load(flags={}, environment={}, file=tmp_path / "q.toml")


def test_an_unknown_toml_key_is_refused_with_the_nearest_valid_name(tmp_path: Path) -> None:
    file = toml(tmp_path, "heartbat = '1s'")
    with pytest.raises(ConfigError, match="heartbat: no such setting; did you mean heartbeat"):
        load(flags={}, environment={}, file=file)


def test_a_file_cannot_name_another_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="config: no such setting"):
        load(flags={}, environment={}, file=toml(tmp_path, "config = 'other.toml'"))


def test_a_name_like_no_other_is_refused_without_a_guess() -> None:
    assert faults(xyzzy="1") == ["-xyzzy: no such flag"]


@pytest.mark.parametrize("name", ["W", "R"])
def test_more_answers_than_there_are_copies_are_refused(name: str) -> None:
    (fault,) = faults(**{name: "4"})
    assert fault.startswith(f"-{name}: 4 replicas can never answer where each key has 3")
    assert flags(**{name: "4", "replication": "4"})


def test_the_fault_names_the_variable_it_came_from() -> None:
    with pytest.raises(ConfigError, match=r"^QUORATE_W: 4 replicas can never"):
        load(flags={}, environment={"QUORATE_W": "4"}, file=None)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("W", "0", "the least is 1"),
        ("R", "0", "the least is 1"),
        ("replication", "0", "the least is 1"),
        ("W", "-1", "the least is 1"),
        ("W", "two", "no whole number"),
        ("W", "\N{ARABIC-INDIC DIGIT ONE}", "no whole number"),
        ("W", "1_0", "no whole number"),
        ("W", "", "no whole number"),
        ("port", "0", "the least is 1"),
        ("port", "65536", "the most is 65535"),
        ("heartbeat", "2", "write 2s or 2ms"),
        ("heartbeat", "0s", "too short"),
        ("heartbeat", "-1s", "no duration"),
        ("down-after", "0", "the least is 1"),
        ("timeout", "0s", "too short"),
        ("cache-size", "-1", "the least is 0"),
        ("cache-bytes", "1XB", "no size"),
        ("value-max", "0", "the least is 1"),
        ("value-max", "17MiB", "17MiB is too large: the most is 16MiB"),
        ("engine", "rocksb", "none of rocksdb, memory; did you mean rocksdb?"),
        ("durability", "fsync", "none of sync, os; did you mean sync?"),
        ("discover", "mdsn", "; did you mean mdns?"),
        ("loop", "trio", "none of auto, uvloop, asyncio"),
        ("allow-flush", "yes", "neither true nor false"),
        ("cluster", "", "1 to 64 letters"),
        ("cluster", "a b", "1 to 64 letters"),
        ("advertise", "nonsense", "has no port"),
        ("listen", "8000", "write host:port"),
        ("listen", "localhost", "write host:port"),
        ("listen", "::1:8000", "in brackets"),
        ("listen", "localhost:0", "the least is 1"),
        ("listen", "a..b:8000", "no host name"),
        ("listen", f"{'a' * 64}:8000", "no host name"),
        ("nodes", "a:1,a..b:8000", "no host name"),
        ("advertise", f"{'a' * 64}:8000", "no host name"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_flag_and_remedy(
    name: str, text: str, why: str
) -> None:
    (fault,) = faults(**{name: text})
    assert fault.startswith(f"-{name}: ")
    assert why in fault
    assert "\n" not in fault


def test_all_faults_of_all_layers_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(
            flags={"W": "9", "prot": "1"},
            environment={"QUORATE_ENGINE": "sqlite"},
            file=toml(tmp_path, "heartbeat = 2\nnonsense = 1\n"),
        )
    assert [fault.partition(": ")[0] for fault in raised.value.faults] == [
        str(tmp_path / "quorate.toml"),
        "-prot",
        str(tmp_path / "quorate.toml"),
        "QUORATE_ENGINE",
        "-W",
    ]
    assert str(raised.value).splitlines() == raised.value.faults


def test_a_bad_replication_is_the_only_fault_it_causes() -> None:
    assert len(faults(replication="0", W="2")) == 1


def test_the_port_follows_listen() -> None:
    assert flags(listen="127.0.0.1:9001").port == 9001
    assert flags(listen=":9001").listen == "0.0.0.0:9001"


def test_listen_and_port_that_disagree_are_refused() -> None:
    assert faults(listen="127.0.0.1:9001", port="9002") == [
        "-listen: port 9001 is not -port 9002: give one"
    ]


@pytest.mark.parametrize(
    "text", ["port = ", "\x00", "port = 1\nport = 2", "port = " + "[" * 10_000, "#" * (2 << 20)]
)
def test_a_file_that_is_no_toml_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^-config .*quorate\.toml: [^\n]+\Z"):
        load(flags={}, environment={}, file=toml(tmp_path, text))


def test_a_pipe_is_no_file_of_settings_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"^-config .*pipe: it is no file\Z"):
        load(flags={}, environment={}, file=tmp_path / "pipe")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(flags={}, environment={}, file=tmp_path / "absent.toml")


def test_the_file_is_named_by_the_flag_or_else_by_the_environment() -> None:
    environment = {"QUORATE_CONFIG": "b.toml"}
    assert file_of(flags={"config": "a.toml"}, environment=environment) == Path("a.toml")
    assert file_of(flags={}, environment=environment) == Path("b.toml")
    assert file_of(flags={}, environment={}) is None


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"join": "a:1", "nodes": "b:2"}, "-join: -nodes is the list that founds a cluster"),
        ({"token-file": "t"}, "-token-file: it needs -join"),
        (
            {"join": "a:1", "token-file": "t", "secret-file": "s"},
            "-token-file: a token is for who has no secret",
        ),
        (
            {"join": "a:1", "token-file": "t", "engine": "memory"},
            "-token-file: -engine=memory has no directory",
        ),
    ],
)
def test_what_cannot_be_said_of_joining_is_a_fault(given: dict[str, str], fault: str) -> None:
    (said,) = faults(**given)
    assert said.startswith(fault)


def test_what_a_node_is_not_to_be_given_is_named_as_it_was_given() -> None:
    """Commands have variables of these names too, and who typed a flag does not think of them."""
    commands = {"QUORATE_NODES": "a:1", "QUORATE_SECRET_FILE": "s"}
    with pytest.raises(ConfigError) as caught:
        load(flags={"join": "a:1", "token-file": "t"}, environment=commands, file=None)
    assert caught.value.faults == [
        "-join: QUORATE_NODES is the list that founds a cluster: give one of the two",
        "-token-file: a token is for who has no secret, and QUORATE_SECRET_FILE names one: give one"
        " of the two",
    ]
    with pytest.raises(ConfigError) as caught:
        load(
            flags={"discover": "mdns", "expect": "3"},
            environment={"QUORATE_NODES": "a:1"},
            file=None,
        )
    assert caught.value.faults == [
        "-expect: it is for nodes that find each other: QUORATE_NODES says who founds: give one"
    ]


# --- secret and TLS -------------------------------------------------------------------------------


def tls_fault(*, secret: str = "", **given: str) -> str:
    environment = {"QUORATE_SECRET": secret}
    named = {name.replace("_", "-"): text for name, text in given.items()}
    with pytest.raises(ConfigError) as caught:
        load(flags=named, environment=environment, file=None)
    (fault,) = caught.value.faults
    return fault


def test_what_belongs_together_is_asked_for() -> None:
    assert "-tls-cert: it needs -tls-key" in tls_fault(tls_cert="c")
    assert "-tls-key: it needs -tls-cert" in tls_fault(tls_key="k")
    assert "-peer-names: it needs -tls-ca" in tls_fault(secret="s", peer_names="a.test")
    assert "-tls=required: it needs" in tls_fault(tls="required")
    assert "give -peer-names" in tls_fault(tls_ca="a", tls_cert="c", tls_key="k")
    assert "no name in a certificate" in tls_fault(secret="s", tls_ca="a", peer_names="a.*.test")
    load(flags={"tls": "required"}, environment={"QUORATE_SECRET": "s"}, file=None)


def test_of_two_variables_with_a_secret_neither_is_meant_and_a_flag_goes_before() -> None:
    both = {"QUORATE_SECRET": "s", "QUORATE_SECRET_FILE": "f"}
    with pytest.raises(ConfigError, match="QUORATE_SECRET_FILE: QUORATE_SECRET has a secret too"):
        load(flags={}, environment=both, file=None)
    found = load(flags={"secret-file": "g"}, environment=both, file=None)
    assert found.secret_file == "g"


def test_the_secret_itself_is_no_flag_and_stands_in_no_file_of_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="secret: no such flag"):
        load(flags={"secret": "x"}, environment={}, file=None)
    with pytest.raises(ConfigError, match="secret: no such setting"):
        load(flags={}, environment={}, file=toml(tmp_path, "secret = 'x'"))
