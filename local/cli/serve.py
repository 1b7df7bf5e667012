"""`facerelay serve`: the whole service on this machine."""

from __future__ import annotations

import ipaddress
import logging
import os
import threading
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from local.cli.console import clear_errors, fail, messages
from local.logs import LogFormat, LogLevel, configure_logging

if TYPE_CHECKING:
    import azure.functions as func

    from functions.services import Services
    from shared.settings import Settings


class BackendName(StrEnum):
    """Values of the setting `backend`."""

    LOCAL = "local"
    AZURE = "azure"


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 for any that is free.")] = 7071,
    auth: Annotated[
        bool | None,
        typer.Option(
            "--auth/--no-auth",
            help="Ask callers for a token (facerelay token create). Off by default on a loopback address, where only "
            "this machine can call; always on elsewhere.",
        ),
    ] = None,
    backend: Annotated[
        BackendName | None,
        typer.Option(help="Where blobs, queues and documents are, instead of what FACERELAY_BACKEND says."),
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(help="What is not worth a line.")] = LogLevel.INFO,
    log_format: Annotated[LogFormat, typer.Option(help="Lines for people, or JSON for collectors.")] = LogFormat.TEXT,
    metrics: Annotated[bool, typer.Option(help="Collect metrics, for Prometheus at /metrics.")] = True,
) -> None:
    """Run HTTP, blob, queue and timer functions on this machine, until a signal comes."""
    from functions.guard import FORM_OVERHEAD_BYTES
    from local.host.backend import open_backend
    from local.host.serve import serve as run_host
    from shared.bootstrap import worker_count

    configure_logging(log_level, log_format)
    with clear_errors():
        settings = with_auth(_settings(backend), auth, loopback=_is_loopback(host))
        services = _make_services(settings, metrics=metrics)
        app = _function_app(settings)
        # Bindings name app settings; on the platform these come from the portal, here from the typed settings.
        env = dict(os.environ) | {
            "FACERELAY_TRAIN_SCHEDULE": settings.train_schedule,
            "FACERELAY_GROUP_SCHEDULE": settings.group_schedule,
            "FACERELAY_RETENTION_SCHEDULE": settings.retention_schedule,
        }
        threading.Thread(target=_warm_up, args=(services,), name="warm-up", daemon=True).start()
        run_host(
            app,
            open_backend(settings, services.runtime.stores),
            host=host,
            port=port,
            concurrency=worker_count(settings),
            env=env,
            max_body_bytes=settings.max_image_bytes + FORM_OVERHEAD_BYTES,
            ready_callback=lambda url: messages.print(
                f"facerelay is running at [bold]{url}[/]  (documentation: {url}/docs)", highlight=False
            ),
        )


def _settings(backend: BackendName | None) -> Settings:
    from shared.settings import Settings

    settings = Settings() if backend is None else Settings(backend=backend.value)
    # There is no Event Grid on this machine.
    if settings.emulated_storage and "blob_trigger_source" not in settings.model_fields_set:
        settings = settings.model_copy(update={"blob_trigger_source": "polling"})
    # Before any of the functions is imported: a decorator of theirs asks for it.
    os.environ["FACERELAY_BLOB_TRIGGER_SOURCE"] = settings.blob_trigger_source
    return settings


def _function_app(settings: Settings) -> func.FunctionApp:
    """The functions, and what lifecycle rules and times to live would do in the cloud."""
    from function_app import app
    from local.maintenance import bp as maintenance

    if settings.backend == "local" or settings.emulated_storage:
        app.register_functions(maintenance)
    return app


def _make_services(settings: Settings, *, metrics: bool) -> Services:
    """The services of this process, put in place and measured."""
    from functions.services import Services, use_services
    from local.host.inbox import blob_queue
    from shared.bootstrap import build
    from shared.messages import OPERATED_QUEUES

    runtime = build(settings)
    queues = [*OPERATED_QUEUES, blob_queue("recognize_candidate")]
    runtime.start_telemetry("facerelay-serve", queues=queues, prometheus=metrics)
    services = Services(runtime)
    services.alert_requests()  # a mistake in the rules is told now, not when the first face comes
    use_services(services)
    return services


def with_auth(settings: Settings, asked: bool | None, *, loopback: bool) -> Settings:
    """The settings, with authentication as asked for on the command line, else as set, else by who can call.

    Ends the command when it would be off where other machines can call.
    """
    auth = asked
    if auth is None:
        auth = settings.auth if "auth" in settings.model_fields_set or not loopback else False
    if not auth and not loopback:
        fail(
            "without authentication only a loopback address can be listened to",
            hint="leave out --no-auth and FACERELAY_AUTH, and make a token with: facerelay token create",
        )
    if not loopback:
        messages.print(
            "[yellow]other machines can call[/]: tokens and pictures travel unencrypted, so put a proxy with HTTPS in "
            "front",
            highlight=False,
        )
    return settings.model_copy(update={"auth": auth})


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _warm_up(services: object) -> None:
    """Loads models and the API before the first caller needs them; a failure will be that caller's to see."""
    from functions.http import application
    from functions.services import Services
    from shared.errors import FacerelayError

    if isinstance(services, Services):
        try:
            services.detections()
            services.runtime.live_model.serving()
        except FacerelayError as error:
            logging.getLogger(__name__).warning("not ready: %s", error, extra={"action": "warm_up.failed"})
    application()
