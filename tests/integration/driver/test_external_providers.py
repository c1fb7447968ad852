"""Providers behind sockets, as they are installed for the upstream driver.

Source: docs/reference/upstream-provider-protocol.md#messages
"""

from __future__ import annotations

import asyncio
import socket as sockets
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from keyferry.errors import Code, ProviderReportedError, ProviderUnreachableError
from keyferry.net.grpc_server import Context
from keyferry.plugins.external_provider import ExternalProvider
from keyferry.plugins.providers import Providers
from keyferry.proto import provider_v1alpha1_pb2 as wire
from keyferry.providers.api import MountCall, encode_result
from keyferry.providers.host import ProviderHost
from keyferry.providers.known_fields.attributes import POD_NAMESPACE
from keyferry.providers.mount_limits import MAX_CONCURRENT_MOUNTS
from tests.fakes.driver import Driver, running_driver
from tests.fakes.provider import MountHandler, external_provider, mount_result, recording_relay
from tests.fakes.volume import read_through_links

MAX_BYTES = 64 * 1024


@pytest.fixture
def folder(mount_home: Path) -> Path:
    """Where providers put their sockets."""
    made = mount_home / "providers"
    made.mkdir()
    return made


@pytest.fixture
async def driver(mount_home: Path, folder: Path) -> AsyncIterator[Driver]:
    """A driver that looks into two folders; a class `web` for the provider `ext`."""
    first = mount_home / "first"
    async with running_driver(
        mount_home, socket_folders=(first, folder), max_receive_bytes=MAX_BYTES
    ) as running:
        running.write_class("web", provider="ext")
        yield running


async def failure(driver: Driver, class_name: str = "web") -> grpc.aio.AioRpcError:
    """The status that a publish ends with; nothing is left of it."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await driver.publish(class_name)
    assert [] == driver.leftovers()
    return caught.value


def answers(response: wire.MountResponse) -> MountHandler:
    """Always this."""

    async def answer(_: wire.MountRequest, __: Context) -> wire.MountResponse:
        return response

    return answer


async def test_files_of_an_external_provider_are_written(driver: Driver, folder: Path) -> None:
    """The provider is found by its name and called with its protocol."""
    async with external_provider(folder / "ext.sock"):
        assert {"a": b"external"} == read_through_links(await driver.publish("web"))
        assert {"secret/a": "v1"} == await driver.objects_in_status("web")


async def test_external_provider_is_called_with_authority_localhost(folder: Path) -> None:
    """Go servers reject the path of a socket as an authority."""
    async with (
        external_provider(folder / "inner.sock"),
        recording_relay(folder / "ext.sock", folder / "inner.sock") as said,
    ):
        provider = ExternalProvider("ext", folder / "ext.sock", max_receive_bytes=MAX_BYTES)
        await provider.mount(MountCall({"x": "y"}))
        await provider.close()
    assert b"localhost" in said
    assert b"ext.sock" not in said
    assert b"/v1alpha1.CSIDriverProvider/Mount" in said


async def test_error_code_of_a_provider_is_the_error_type_in_metrics(
    driver: Driver, folder: Path
) -> None:
    """The message names provider and code."""
    coded = wire.MountResponse(error=wire.Error(code="QuotaExceeded"))
    async with external_provider(folder / "ext.sock", answers(coded)):
        status = await failure(driver)
    assert grpc.StatusCode.UNKNOWN == status.code()
    assert "provider 'ext' reported error code 'QuotaExceeded'" in (status.details() or "")
    counted = driver.metric_values("node_publish_error_total")
    assert {"error_type=QuotaExceeded provider=ext": 1.0} == counted


async def test_reply_without_object_versions_is_rejected(driver: Driver, folder: Path) -> None:
    """Files are not enough."""
    poor = wire.MountResponse(files=[wire.File(path="a", mode=0o644, contents=b"x")])
    async with external_provider(folder / "ext.sock", answers(poor)):
        assert "missing object versions" in ((await failure(driver)).details() or "")


@asynccontextmanager
async def garbage_provider(socket: Path) -> AsyncIterator[None]:
    """A gRPC server whose responses are not messages of the protocol."""

    async def respond(_: bytes, __: Context) -> bytes:
        return b"\xff\xffcanary"

    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        name: grpc.unary_unary_rpc_method_handler(respond) for name in ("Mount", "Version")
    }
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("v1alpha1.CSIDriverProvider", handlers)]
    )
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)


async def test_response_that_cannot_be_decoded_names_the_provider(
    driver: Driver, folder: Path
) -> None:
    """It is no internal error, and its bytes are not quoted."""
    async with garbage_provider(folder / "ext.sock"):
        status = await failure(driver)
        provider = ExternalProvider("ext", folder / "ext.sock", max_receive_bytes=MAX_BYTES)
        with pytest.raises(ProviderReportedError, match="cannot be decoded"):
            await provider.version()
        await provider.close()
    assert grpc.StatusCode.UNKNOWN == status.code()
    details = status.details() or ""
    assert "provider 'ext' returned a response that cannot be decoded" in details
    assert "canary" not in details


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED]
)
async def test_grpc_status_of_a_provider_is_passed_on(
    driver: Driver, folder: Path, code: grpc.StatusCode
) -> None:
    """Kubelet decides by it whether the volume may exist."""

    async def refuse(_: wire.MountRequest, context: Context) -> wire.MountResponse:
        await context.abort(code, "the vault said no")

    async with external_provider(folder / "ext.sock", refuse):
        status = await failure(driver)
    assert code == status.code()
    assert "provider 'ext' failed: the vault said no" in (status.details() or "")


async def test_reply_that_is_too_large_names_the_flag_to_raise(
    driver: Driver, folder: Path
) -> None:
    """The limit and the status are those of upstream."""
    large = encode_result(mount_result({"a": "x" * 2 * MAX_BYTES}))
    async with external_provider(folder / "ext.sock", answers(large)):
        status = await failure(driver)
    assert grpc.StatusCode.RESOURCE_EXHAUSTED == status.code()
    assert "--max-call-recv-msg-size" in (status.details() or "")


async def test_few_mounts_of_one_namespace_run_at_once(driver: Driver, folder: Path) -> None:
    """Each response may have the maximum size; a mount of another namespace does not wait."""
    running, most, others = 0, 0, asyncio.Event()

    async def serve(message: wire.MountRequest, _: Context) -> wire.MountResponse:
        nonlocal running, most
        if '"other"' in message.attributes:
            others.set()
        running += 1
        most = max(most, running)
        await others.wait()
        running -= 1
        return encode_result(mount_result({"a": "x"}))

    count = MAX_CONCURRENT_MOUNTS + 4
    async with external_provider(folder / "ext.sock", serve):
        calls = [asyncio.create_task(driver.publish("web", f"web-{n}")) for n in range(count)]
        while running < MAX_CONCURRENT_MOUNTS:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        driver.write_class("web-other", provider="ext", namespace="other")
        message = driver.publish_request("web-other", "other-0")
        message.volume_context[POD_NAMESPACE] = "other"
        await driver.send_publish(message)
        await asyncio.gather(*calls)
    assert MAX_CONCURRENT_MOUNTS + 1 == most


async def test_dead_socket_is_reported_without_a_long_wait(folder: Path) -> None:
    """Upstream waits until kubelet gives up, and says nothing."""
    path = folder / "ext.sock"
    with sockets.socket(sockets.AF_UNIX) as dead:
        dead.bind(str(path))
    provider = ExternalProvider("ext", path, max_receive_bytes=MAX_BYTES, connect_seconds=0.2)
    with pytest.raises(ProviderUnreachableError) as caught:
        await provider.mount(MountCall({"x": "y"}))
    assert Code.UNAVAILABLE == caught.value.code
    assert f"no server listens on {path}" in str(caught.value)
    await provider.close()


async def test_call_waits_for_a_restarting_provider(folder: Path) -> None:
    """A rolling update of a provider fails no mount."""
    path = folder / "ext.sock"
    async with external_provider(path):
        provider = ExternalProvider("ext", path, max_receive_bytes=MAX_BYTES)
        await provider.mount(MountCall({"x": "y"}))
    refused = asyncio.Event()

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        refused.set()

    async with await asyncio.start_unix_server(refuse, path):
        late = asyncio.create_task(provider.mount(MountCall({"x": "y"})))
        await refused.wait()
    path.unlink(missing_ok=True)
    async with external_provider(path):
        assert 1 == len((await late).files)
    await provider.close()


async def test_provider_is_found_as_soon_as_its_socket_exists(driver: Driver, folder: Path) -> None:
    """Nothing is remembered of the search that failed."""
    assert "provider not found" in ((await failure(driver)).details() or "")
    async with external_provider(folder / "ext.sock"):
        assert {"a": b"external"} == read_through_links(await driver.publish("web"))


async def test_unknown_provider_error_lists_available_providers(
    driver: Driver, folder: Path
) -> None:
    """And the folders that were searched; the status is that of upstream."""
    async with external_provider(folder / "gcp.sock"):
        status = await failure(driver)
    assert grpc.StatusCode.UNKNOWN == status.code()
    details = status.details() or ""
    assert "provider not found: provider 'ext'" in details
    assert "Available providers: gcp." in details
    assert str(folder) in details
    assert {"error_type= provider=ext": 1.0} == driver.metric_values("node_publish_error_total")


async def test_first_folder_with_the_socket_wins(
    driver: Driver, folder: Path, mount_home: Path
) -> None:
    """Additional folders come before the main one."""
    (mount_home / "first").mkdir()
    first = answers(encode_result(mount_result({"a": "first"})))
    async with (
        external_provider(mount_home / "first" / "ext.sock", first),
        external_provider(folder / "ext.sock"),
    ):
        assert {"a": b"first"} == read_through_links(await driver.publish("web"))


def old_style(text: str) -> MountHandler:
    """A provider that writes into the volume itself and returns no files."""

    async def answer(message: wire.MountRequest, _: Context) -> wire.MountResponse:
        target = Path(message.target_path)
        (target / "plain").write_text(text)
        (target / "d").mkdir(exist_ok=True)
        (target / "d" / "nested").write_text(text)
        return wire.MountResponse(object_version=[wire.ObjectVersion(id="o", version="1")])

    return answer


@pytest.mark.mounts
async def test_legacy_provider_writes_files_itself(driver: Driver, folder: Path) -> None:
    """The volume is mounted before the call; the Secret is made from the written files."""
    entry = {
        "secretName": "s",
        "type": "Opaque",
        "data": [
            {"objectName": "plain", "key": "plain"},
            {"objectName": "d/nested", "key": "nested"},
        ],
    }
    driver.write_class("old", provider="ext", secret_objects=[entry])
    async with external_provider(folder / "ext.sock", old_style("written")):
        target = await driver.publish("old")
        assert target.is_mount()
        assert {"plain": b"written", "d/nested": b"written"} == read_through_links(target)
        assert {"plain", "d"} == {entry.name for entry in target.iterdir()}
        secret = driver.secret("s")
        assert secret is not None
        assert {"plain", "nested"} == {k for k, v in secret["data"].items() if b64decode(v)}
        await driver.publish("old")
        await driver.unpublish()
    assert [] == driver.leftovers()


@pytest.mark.mounts
async def test_failed_legacy_provider_leaves_nothing(driver: Driver, folder: Path) -> None:
    """Not even the mount that was made for it."""

    async def refuse(message: wire.MountRequest, context: Context) -> wire.MountResponse:
        (Path(message.target_path) / "half").write_text("x")
        await context.abort(grpc.StatusCode.INTERNAL, "half way")

    async with external_provider(folder / "ext.sock", refuse):
        status = await failure(driver)
    assert "half way" in (status.details() or "")


async def test_parameters_that_only_the_external_provider_understands_are_mounted(
    driver: Driver, folder: Path
) -> None:
    """An external provider with a built-in name may be newer; file paths are its names."""
    entry = {"secretName": "s", "type": "Opaque", "data": [{"objectName": "a", "key": "k"}]}
    driver.write_class(
        "new", provider="azure", parameters={"objects": "a form of 2030"}, secret_objects=[entry]
    )
    async with external_provider(folder / "azure.sock"):
        assert {"a": b"external"} == read_through_links(await driver.publish("new"))
    assert driver.secret("s") is not None


@pytest.mark.mounts
async def test_owner_of_the_class_is_that_of_files_of_an_external_provider(
    driver: Driver, folder: Path
) -> None:
    """An attribute of the pod overrides it."""
    driver.write_class("owned", provider="ext", parameters={"fileOwner": "999"})
    async with external_provider(folder / "ext.sock"):
        target = await driver.publish("owned")
        assert (999, 0) == (target / "a").stat()[4:6]
        await driver.unpublish()
        request = driver.publish_request("owned")
        request.volume_context["fileOwner"] = "998:997"
        await driver.send_publish(request)
        assert (998, 997) == (target / "a").stat()[4:6]


@pytest.mark.mounts
async def test_variables_of_files_of_an_external_provider_are_written(
    driver: Driver, folder: Path
) -> None:
    """With the owner of the volume."""
    parameters = {"envFile": "env/app.env", "envNames": "a: NAME", "fileOwner": "999"}
    driver.write_class("web", provider="ext", parameters=parameters)
    async with external_provider(folder / "ext.sock"):
        target = await driver.publish("web")
    assert {"a": b"external", "env/app.env": b"NAME='external'\n"} == read_through_links(target)
    assert (999, 0) == (target / "env" / "app.env").stat()[4:6]
    assert {"secret/a": "v1"} == await driver.objects_in_status("web")


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"envFile": "a"}, "two files have the path 'a', one of them from templates or envFile"),
        ({"envFile": ".env", "envNames": "b: B"}, "envNames names 'b', which is no file of the"),
        ({"envFile": "a/b"}, "'a' would be a file and the folder of 'a/b'"),
    ],
)
async def test_variables_that_do_not_fit_the_files_fail_the_mount(
    driver: Driver, folder: Path, parameters: dict[str, str], problem: str
) -> None:
    """Nothing is left of it."""
    driver.write_class("web", provider="ext", parameters=parameters)
    async with external_provider(folder / "ext.sock"):
        status = await failure(driver)
    assert problem in (status.details() or "")


async def test_value_that_cannot_be_a_variable_keeps_the_volume(
    mount_home: Path, folder: Path
) -> None:
    """A refresh fails as a whole, and the message has no value."""
    values, asked = {"a": "first"}, []

    async def answer(_: wire.MountRequest, __: Context) -> wire.MountResponse:
        asked.append(values["a"])
        return encode_result(mount_result(values, values["a"]))

    async with (
        running_driver(mount_home, socket_folders=(folder,), rotation_interval=0) as driver,
        external_provider(folder / "ext.sock", answer),
    ):
        driver.write_class("web", provider="ext", parameters={"envFile": ".env"})
        target = await driver.publish("web")
        values["a"] = "canary's"
        await driver.publish("web")
        assert ["first", "canary's"] == asked
        assert {"a": b"first", ".env": b"A='first'\n"} == read_through_links(target)
        log = driver.log.getvalue()
    assert "'a' cannot be the variable A: its value contains a single quote" in log
    assert "canary" not in log


@pytest.mark.mounts
async def test_owner_of_files_that_a_provider_writes_itself_is_refused(
    driver: Driver, folder: Path
) -> None:
    """Keyferry does not touch them; nothing is left of the mount."""
    driver.write_class("owned", provider="ext", parameters={"fileOwner": "999"})
    async with external_provider(folder / "ext.sock", old_style("written")):
        status = await failure(driver, "owned")
    assert "provider 'ext' writes files itself, and fileOwner, envFile" in (status.details() or "")


async def test_invalid_owner_is_refused_before_the_provider_is_asked(
    driver: Driver, folder: Path
) -> None:
    """A name is refused: there are no users in a volume."""
    driver.write_class("owned", provider="ext", parameters={"fileOwner": "postgres"})
    asked: list[wire.MountRequest] = []

    async def record(message: wire.MountRequest, _: Context) -> wire.MountResponse:
        asked.append(message)
        return encode_result(mount_result({"a": "x"}))

    async with external_provider(folder / "ext.sock", record):
        status = await failure(driver, "owned")
    assert [] == asked
    assert "fileOwner 'postgres' is not a uid or uid:gid" in (status.details() or "")


async def test_health_of_used_providers_is_logged(driver: Driver, folder: Path) -> None:
    """A provider that stops to respond is one warning; unused providers are not called."""
    plugins = Providers(
        built_in=ProviderHost({}),
        socket_folders=(folder,),
        max_receive_bytes=MAX_BYTES,
        connect_seconds=0.1,
    )
    async with external_provider(folder / "ext.sock"), external_provider(folder / "other.sock"):
        plugins.resolve("ext")
        await plugins.check_health()
    log = driver.log.getvalue()
    assert 'provider is healthy" provider="ext" version="9.9"' in log
    assert "other" not in log
    for _ in range(3):
        await plugins.check_health()
    log = driver.log.getvalue()
    assert 1 == sum(line.startswith("W") for line in log.splitlines()), log
    await plugins.close()


async def test_version_of_a_provider_is_read(folder: Path) -> None:
    """Protocol, name and version."""
    async with external_provider(folder / "ext.sock"):
        provider = ExternalProvider("ext", folder / "ext.sock", max_receive_bytes=MAX_BYTES)
        version = await provider.version()
        await provider.close()
    assert ("v1alpha1", "ext", "9.9") == (
        version.api_version,
        version.runtime_name,
        version.runtime_version,
    )


async def test_reported_error_without_message_keeps_its_code(folder: Path) -> None:
    """The name of the code replaces the message."""

    async def refuse(_: wire.MountRequest, context: Context) -> wire.MountResponse:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "")

    async with external_provider(folder / "ext.sock", refuse):
        provider = ExternalProvider("ext", folder / "ext.sock", max_receive_bytes=MAX_BYTES)
        with pytest.raises(ProviderReportedError, match="PERMISSION_DENIED") as caught:
            await provider.mount(MountCall({"x": "y"}))
        await provider.close()
    assert 7 == caught.value.code
