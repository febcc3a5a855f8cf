"""Images of items: only files below the folder and hosts that are allowed, and nothing without."""

from pathlib import Path

import httpx
import pytest

from artifacts.store import Store
from artifacts.user_error import InvalidSettingError
from tasks.serving.app import create_app
from tasks.serving.recommender import Recommender
from tasks.serving.service.item_images import (
    HOSTS_VARIABLE,
    MOST_BYTES,
    ItemImages,
)
from tests.tasks.serving.server_thread import running_server
from tests.tasks.serving.small_release import small_release
from tests.tasks.shops.small_shop import SmallShop

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154"
    "78da63f8cfc000000301010018dd8db00000000049454e44ae426082"
)
CDN = "https://cdn.example.com/g2.jpg?size=2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    (made / "deep").mkdir(parents=True)
    (made / "deep" / "g1.png").write_bytes(PIXEL)
    (made / "text.txt").write_text("no image")
    (tmp_path / "secret.png").write_bytes(PIXEL)
    (made / "link.png").symlink_to(tmp_path / "secret.png")
    return made


@pytest.mark.parametrize(
    "path",
    ["../secret.png", "deep/../../secret.png", "link.png", "text.txt", "deep", "nothing.png",
     "deep/g1.png\0.png", "x" * 5000 + ".png", "/etc/passwd", "text.txt/../../secret.png"],
)  # fmt: skip
def test_what_is_no_image_below_the_folder_is_not_shown(folder: Path, path: str) -> None:
    images = ItemImages.of(folder, [])
    assert images.file(path) is None
    assert images.file(str(folder.parent / "secret.png")) is None
    assert images.address("gear", "g1", path) is None


@pytest.mark.parametrize(
    "address",
    ["https://cdn.example.com.evil.example/x.png", "https://evil.example/cdn.example.com/x.png",
     "https://cdn.example.com@evil.example/x.png", "https://user@cdn.example.com/x.png",
     "https://cdn.example.com:8443/x.png", "http://cdn.example.com/x.png", "https://[/x.png",
     "//cdn.example.com/x.png", "javascript:alert(1)//x.png", "data:image/png;base64,AAAA"],
)  # fmt: skip
def test_an_address_elsewhere_is_not_shown(folder: Path, address: str) -> None:
    images = ItemImages.of(folder, ["cdn.example.com"])
    assert images.address("gear", "g2", address) is None
    assert images.address("gear", "g2", CDN) == CDN
    assert ItemImages().address("gear", "g2", CDN) is None


@pytest.mark.parametrize("host", ["https://cdn.example.com", "cdn.example.com/x", "*", "a b", "a;"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(InvalidSettingError, match="no host name"):
        ItemImages.of(None, [host])


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettingError, match="no such folder"):
        ItemImages.of(tmp_path / "nothing", [])


def test_options_come_before_variables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOSTS_VARIABLE, "a.example, B.example")
    assert ItemImages.of_environment().hosts == {"a.example", "b.example"}
    assert ItemImages.of_environment(folder, []).hosts == frozenset()


def test_a_dump_s_images_are_served_and_named_by_every_answer(store: Store, folder: Path) -> None:
    places = {"g1": "deep/g1.png", "g2": CDN, "g3": "../secret.png"}
    small_release(store, shop=SmallShop(images=places))
    recommender = Recommender.load(store)
    served = ItemImages.of(folder, ["cdn.example.com"])
    with running_server(create_app(recommender, images=served)) as url:
        found = httpx.get(f"{url}/items", params={"domain": "gear"}).json()["items"]
        shown = {item["item_id"]: item["image"] for item in found}
        assert shown["g1"] == "image?domain=gear&item_id=g1"
        assert shown["g2"] == CDN
        assert shown["g3"] is None
        answer = httpx.get(f"{url}/{shown['g1']}")
        assert (answer.content, answer.headers["content-type"]) == (PIXEL, "image/png")
        for item in ("g2", "g3", "nothing"):
            assert httpx.get(f"{url}/image?domain=gear&item_id={item}").status_code == 404
        policy = httpx.get(url).headers["content-security-policy"]
        assert "img-src 'self' data: blob: https://cdn.example.com;" in policy
        (folder / "deep" / "g1.png").write_bytes(b"x" * (MOST_BYTES + 1))
        assert httpx.get(f"{url}/{shown['g1']}").status_code == 404


def test_without_a_setting_no_image_is_named(store: Store) -> None:
    small_release(store, shop=SmallShop(images={"g1": "deep/g1.png", "g2": CDN}))
    with running_server(create_app(Recommender.load(store))) as url:
        found = httpx.get(f"{url}/items").json()["items"]
        assert {item["image"] for item in found} == {None}
        assert "https:" not in httpx.get(url).headers["content-security-policy"]
