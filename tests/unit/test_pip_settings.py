"""What of a machine's pip settings goes into the container that tests/system/test_pod.py builds."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from tests.support import pip_settings
from tests.support.pip_settings import CERTIFICATES, Taken


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, in which it makes files, and where it runs."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(home: Path, *names: str) -> list[Path]:
    paths = [home / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return paths


def listed(**settings: str) -> str:
    """What `pip config list` prints of a pip.conf with these in [global]."""
    return "".join(f"global.{name.replace('_', '-')}={value!r}\n" for name, value in settings.items())


def mounted(taken: Taken) -> set[str]:
    """What is mounted, at the path that it has here, besides the certificates of every machine."""
    mounts = taken.mounts()
    assert all(Path(there).resolve() == here for there, here in mounts.items())
    return mounts.keys() - {str(CERTIFICATES)}


@pytest.mark.parametrize("name", ["constraint", "build-constraint", "requirement", "cert", "client-cert", "find-links"])
def test_a_setting_that_names_a_file_brings_that_file_alone(home: Path, name: str) -> None:
    file, _ = files(home, "a/it", "a/other")
    taken = Taken(f"global.{name}={str(file)!r}\n", {})
    # A page of links, which find-links may name, links to files beside it.
    assert mounted(taken) == {str(home / "a") if name == "find-links" else str(file)}
    assert taken.settings.get("global", name) == str(file)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_of_the_environment_are_a_setting_in_the_container(home: Path, variable: str) -> None:
    file, mine = files(home, "ca.pem", "mine.pem")
    taken = Taken("", {variable: str(file)})
    assert mounted(taken) == {str(file)}
    assert taken.settings.get("global", "cert") == str(file)
    # pip's own setting wins
    taken = Taken(f"install.cert={str(mine)!r}\n", {variable: str(file)})
    assert mounted(taken) == {str(mine)}
    assert not taken.settings.has_section("global")
    # and what is not there is none
    assert mounted(Taken("", {variable: str(home / "nothing")})) == set()


def test_pips_variables_win_over_every_section(home: Path) -> None:
    file, other = files(home, "file", "other")
    text = f":env:.cert={str(file)!r}\n:env:.constraint={str(file)!r}\nglobal.cert={str(other)!r}\n"
    taken = Taken(text + f"install.constraint={str(other)!r}\ninstall.pre='true'\n", {})
    assert taken.settings.get("global", "cert") == taken.settings.get("global", "constraint") == str(file)
    assert taken.settings.items("install") == [("pre", "true")]


def test_paths_do_not_depend_on_where_pip_runs(home: Path) -> None:
    ca, one, two, wheels = files(home, "ca.pem", "one.txt", "sub/two.txt", "wheels/a.whl")
    text = listed(cert="~/ca.pem", constraint="one.txt\nsub/../sub/two.txt", find_links="wheels https://example.com/x")
    taken = Taken(text, {})
    assert taken.settings.get("global", "cert") == str(ca)
    assert [Path(word).resolve() for word in taken.settings.get("global", "constraint").split()] == [one, two]
    assert taken.settings.get("global", "find-links").split() == [str(wheels.parent), "https://example.com/x"]
    assert {str(ca), str(one), str(wheels.parent)} < mounted(taken)


def test_a_file_of_constraints_brings_what_it_refers_to(home: Path) -> None:
    top, more, most, wheel, page = files(home, "c/top.txt", "c/more.txt", "d/most.in", "w/a-1.whl", "w2/page.html")
    top.write_text(f"-c more.txt\na @ file://{wheel}\n-r https://example.com/x.txt\nfoo-r\n# -r nothing.txt\n")
    more.write_text(f"  --requirement=../d/most.in\n--find-links {page.parent}\n")
    most.write_text("-c ../c/top.txt\n-cnot-there.txt\n")
    assert mounted(Taken(listed(constraint=str(top)), {})) == set(map(str, (top, more, most, wheel, page.parent)))


@pytest.mark.parametrize("name", ["index-url", "extra-index-url"])
def test_an_index_brings_the_folder_that_its_pages_link_to(home: Path, name: str) -> None:
    files(home, "pypi/simple/a/index.html", "other/simple/a/index.html")
    text = f"file://{home}/pypi/simple file://localhost{home}/other/simple file://{home}/gone/simple https://a:b@c/d"
    taken = Taken(f"global.{name}={text!r}\n", {})
    assert mounted(taken) == {str(home / "pypi"), str(home / "other")}
    assert taken.settings.get("global", name).split() == text.split()


def test_folders_of_links_come_alone(home: Path) -> None:
    files(home, "wheels/a.whl", "more/b.whl")
    taken = Taken(listed(find_links=f"file://{home}/wheels {home}/more"), {})
    assert mounted(taken) == {str(home / "wheels"), str(home / "more")}


@pytest.mark.parametrize(("url", "there"), [("file:///usr/lib", {"/usr/lib"}), ("file:///", set()), ("/", set())])
def test_a_folder_of_the_system_is_not_hidden(url: str, there: set[str]) -> None:
    assert mounted(Taken(listed(index_url=url), {})) == there


def test_nothing_is_mounted_twice(home: Path) -> None:
    _, cert, constraint = files(home, "pypi/simple/index.html", "pypi/ca.pem", "pypi/c.txt")
    text = listed(index_url=f"file://{home}/pypi/simple", cert=str(cert), constraint=f"{constraint} {constraint}")
    assert mounted(Taken(text, {})) == {str(home / "pypi")}


def test_a_link_that_leads_out_of_its_folder_brings_what_it_leads_to(home: Path) -> None:
    target, other, _ = files(home, "elsewhere/ca.pem", "elsewhere/alone.pem", "pypi/simple/index.html")
    (home / "pypi/ca.pem").symlink_to(target)
    (home / "link.pem").symlink_to(other)
    text = listed(index_url=f"file://{home}/pypi/simple", cert=str(home / "pypi/ca.pem"), client_cert="link.pem")
    assert Taken(text, {}).mounts() | {str(CERTIFICATES): CERTIFICATES} == {
        str(home / "pypi"): home / "pypi",
        str(target): target,
        str(home / "link.pem"): other,
        str(CERTIFICATES): CERTIFICATES,
    }


def test_where_this_machine_installs_and_writes_stays_here(home: Path) -> None:
    text = listed(target="/t", user="true", log="pip.log", cache_dir="~/c", python="/usr/bin/python3", timeout="9")
    taken = Taken(text, {})
    assert taken.settings.items("global") == [("timeout", "9")]
    assert mounted(taken) == set()


def test_a_real_pip_conf(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constraints, ca = files(home, "constraints.txt", "ca.pem")
    conf, folder = home / "made-up.conf", home / "folder"
    conf.write_text(f"[global]\ncert = {ca}\n[install]\nconstraint =\n    {constraints}\n    c%d.txt\n")
    folder.mkdir()
    for name in ("PIP_CONSTRAINT", "PIP_CERT", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(conf))
    monkeypatch.setenv("PIP_CLIENT_CERT", str(ca))
    mounts = pip_settings.mounts(folder)
    assert mounts["/etc/pip.conf"] == folder / "pip.conf"
    assert (mounts[str(constraints)], mounts[str(ca)]) == (constraints, ca)
    written = configparser.RawConfigParser()
    written.read(folder / "pip.conf")
    assert written.get("install", "constraint").split() == [str(constraints), "c%d.txt"]
    assert written.get("global", "cert") == written.get("global", "client-cert") == str(ca)
