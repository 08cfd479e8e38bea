"""Images as plain data."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allm import Image, ValidationError
from allm.images import mime_of

PNG = b"\x89PNG\r\n\x1a\nrest"


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF87a..", "image/gif"),
        (b"GIF89a..", "image/gif"),
        (b"BM....", "image/bmp"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"\0\0\0\x18ftypheic", "image/heic"),
        (b"\0\0\0\x18ftypmif1", "image/heic"),
        (b"\0\0\0\x18ftypavif", "image/avif"),
    ],
)
def test_the_media_type_is_read_from_the_bytes(data: bytes, mime: str) -> None:
    assert mime_of(data) == mime
    assert Image.from_binary(data).mime == mime


@pytest.mark.parametrize("data", [b"nothing", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x18ftypmp42"])
def test_bytes_of_no_known_image_need_a_media_type(data: bytes) -> None:
    with pytest.raises(ValidationError, match=r"image\.data: not an image of a known type"):
        Image.from_binary(data)
    assert Image.from_binary(data, "image/x-own").mime == "image/x-own"


def test_a_file_is_read_at_once(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(PNG)
    image = Image.from_file(file)
    file.unlink()
    assert image == Image.from_binary(PNG)
    assert image.to_binary() == PNG


@pytest.mark.parametrize("path", ["missing.png", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValidationError, match=r"^image: .*cannot be read"):
        Image.from_file(f"{tmp_path}/{path}")


@settings(deadline=None)
@given(st.binary(min_size=1), st.sampled_from(["image/png", "image/x"]))
def test_base64_and_data_uris_go_both_ways(data: bytes, mime: str) -> None:
    image = Image.from_binary(data, mime)
    assert Image.from_base64(image.to_base64(), mime) == image
    assert Image.from_data_uri(image.to_data_uri()) == image
    assert Image.from_url(image.to_data_uri()) == image


def test_a_data_uri_without_a_media_type_tells_it_by_its_bytes() -> None:
    text = base64.b64encode(PNG).decode()
    assert Image.from_data_uri(f"data:;base64,{text}").mime == "image/png"
    assert Image.from_data_uri(f"data:image/x;charset=a;base64,{text}").mime == "image/png"
    assert Image.from_data_uri("data:image/x;charset=a;base64,AAAA").mime == "image/x"


@pytest.mark.parametrize("uri", ["data:image/png,abc", "data:image/png;base64", "http://example.org", ""])
def test_what_is_no_base64_data_uri_is_refused(uri: str) -> None:
    with pytest.raises(ValidationError, match="expected data:"):
        Image.from_data_uri(uri)


@pytest.mark.parametrize("text", ["***", "abc", "é", "QQ==\n"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="it is no base64"):
        Image.from_base64(text, "image/png")


@pytest.mark.parametrize("url", ["https://example.org/a.png", "http://example.org/a.png", "gs://bucket/a.png"])
def test_an_address_is_kept_as_it_is_and_has_no_bytes(url: str) -> None:
    image = Image.from_url(url)
    assert (image.url, image.data, image.mime) == (url, None, None)


def test_an_address_that_only_the_provider_reads_is_not_fetched() -> None:
    image = Image.from_url("gs://bucket/a.png")
    for read in (image.to_binary, image.to_base64, image.to_data_uri):
        with pytest.raises(ValidationError, match="only the provider reads gs addresses"):
            read()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org", "a.png", ""])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ValidationError, match=r"image\.url: expected an http"):
        Image.from_url(url)


def test_an_image_has_either_bytes_or_an_address() -> None:
    with pytest.raises(ValidationError, match="exactly one of data and url"):
        Image()
    with pytest.raises(ValidationError, match="exactly one of data and url"):
        Image(data=PNG, url="https://example.org")
    with pytest.raises(ValidationError, match=r"image\.data: it is empty"):
        Image.from_binary(b"")


def test_the_repr_does_not_show_the_bytes() -> None:
    assert repr(Image.from_binary(PNG)) == "Image(12 bytes, image/png)"
    assert repr(Image.from_url("https://example.org/a")) == "Image(https://example.org/a, None)"


odd: Any = Image  # for what its types would not let in


@pytest.mark.parametrize(
    "make",
    [
        lambda: odd.from_binary(5, "image/png"),
        lambda: odd.from_binary(None, "image/png"),
        lambda: odd.from_binary(PNG, 5),
        lambda: odd.from_url(None),
        lambda: odd.from_base64(5),
        lambda: odd.from_data_uri(5),
        lambda: odd.from_file(5),
        lambda: odd(data="text", mime="image/png"),
        lambda: odd(url=b"https://a.example"),
    ],
)
def test_an_image_of_something_else_is_refused(make: Callable[[], Image]) -> None:
    with pytest.raises(ValidationError):
        make()


def test_schemes_and_words_of_an_address_have_no_case() -> None:
    assert Image.from_url("HTTPS://Example.org/A.png").url == "https://Example.org/A.png"
    assert Image.from_url(f"DATA:image/PNG;BASE64,{base64.b64encode(PNG).decode()}") == Image.from_binary(PNG)


def test_buffers_are_bytes() -> None:
    assert odd.from_binary(bytearray(PNG)) == odd.from_binary(memoryview(PNG)) == Image.from_binary(PNG)
