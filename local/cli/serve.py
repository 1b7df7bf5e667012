"""`facerelay serve`: the whole service on this machine."""

from __future__ import annotations

import ipaddress
import logging
import os
import threading
from typing import Annotated

import typer

from local.cli.console import clear_errors, fail, messages


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; only loopback, until callers have tokens.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 for any that is free.")] = 7071,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error")] = "info",
) -> None:
    """Run HTTP, blob, queue and timer functions on this machine, until a signal comes."""
    from functions.services import Services, use_services
    from local.host.serve import serve as run_host
    from local.maintenance import bp as maintenance
    from shared.adapters.local import LocalStore
    from shared.bootstrap import build, worker_count
    from shared.settings import Settings

    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True)
    if not _is_loopback(host):
        fail(
            f"{host} is not a loopback address, and this version does not ask callers who they are",
            hint="listen on 127.0.0.1, behind a proxy that authenticates",
        )
    with clear_errors():
        settings = Settings()
        runtime = build(settings)
        services = Services(runtime)
        use_services(services)
        from function_app import app

        app.register_functions(maintenance)
        # Bindings name app settings; on the platform these come from the portal, here from the typed settings.
        env = dict(os.environ) | {
            "FACERELAY_TRAIN_SCHEDULE": settings.train_schedule,
            "FACERELAY_RETENTION_SCHEDULE": settings.retention_schedule,
        }
        threading.Thread(target=_warm_up, args=(services,), name="warm-up", daemon=True).start()
        run_host(
            app,
            LocalStore(settings.data_dir),
            host=host,
            port=port,
            concurrency=worker_count(settings),
            env=env,
            ready_callback=lambda url: messages.print(
                f"facerelay is running at [bold]{url}[/]  (documentation: {url}/docs)", highlight=False
            ),
        )


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
            services.runtime.live_model()
        except FacerelayError as error:
            logging.getLogger(__name__).warning("not ready: %s", error, extra={"action": "warm_up.failed"})
    application()
